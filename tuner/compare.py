"""Compares methods, with paired tests: `python -m tuner.compare --space search_spaces/compare/digits.yaml`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tuner.cli.arguments import (
    FAILED,
    SUCCEEDED,
    experiment_parser,
    flags_of,
    guarded,
    outputs_of,
    overrides_of,
    parse_arguments,
    resolve_space_file,
    say_first,
    write_json,
)

if TYPE_CHECKING:  # imported when the command runs, so that `--help` is quick
    from tuner.comparison.comparison_experiment import ComparisonExperiment
    from tuner.comparison.comparison_result import ComparisonResult
    from tuner.execution.observer import Observer
    from tuner.experiment.checks import Plan
    from tuner.experiment.search_experiment import SearchExperiment
    from tuner.record.journal import SearchJournal
    from tuner.resources.share import Share


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: every row has a score in every column; 2: bad input; 1: any other end."""
    arguments = parse_arguments(parser(), argv)
    return guarded(lambda: run(resolve_space_file(arguments)))


def parser() -> argparse.ArgumentParser:
    """Builds the command line; a contract, held by a test."""
    return experiment_parser("compare")


def run(arguments: argparse.Namespace) -> int:
    """Checks the comparison, then shows its plan or runs it. Returns the exit code."""
    say_first(arguments)
    from tuner.comparison.comparison_experiment import check_comparison, load_comparison, resolved_comparison
    from tuner.execution.check import check_resumable, check_with_places
    from tuner.experiment.extends import locate_problems

    overrides, flags = overrides_of(arguments), flags_of(arguments)
    with locate_problems(arguments.space, overrides, flags):
        comparison = load_comparison(arguments.space, overrides, arguments.smoke, flags)
        plans = check_with_places(comparison, lambda: check_comparison(comparison), outputs_of(arguments))
        comparison = resolved_comparison(comparison, plans)
        if arguments.dry_run and arguments.resume:
            check_resumable(comparison)
    if arguments.dry_run:
        from tuner.cli.console import text_console
        from tuner.cli.dry_run import print_comparison

        print_comparison(text_console(), comparison, plans, arguments.address)
        return SUCCEEDED
    result = compare(comparison, plans, arguments.address, bool(arguments.resume))
    if result is None:
        return FAILED
    is_written = write_json(result.write, arguments.json)
    return SUCCEEDED if is_written and result.complete else FAILED


def compare(
    comparison: ComparisonExperiment, plans: Sequence[Plan], address: str | None = None, resume: bool = False
) -> ComparisonResult | None:
    """Runs a checked comparison on the terminal, or resumes its latest run. Returns None if it is interrupted or fails,
    with a message.

    Raises:
        BadInput: before the first training, as `command_session`.
    """
    from tuner.cli.comparison_progress import ComparisonProgress
    from tuner.cli.search_progress import SearchProgress
    from tuner.cli.session import command_session, run_guarded
    from tuner.cluster.trainable import decoded_bytes
    from tuner.comparison.comparison_result import closing_lines
    from tuner.comparison.cost import ComparisonCost
    from tuner.comparison.run_comparison import load_comparison_images, run_comparison
    from tuner.record.history import ComparisonHistory

    images = load_comparison_images(comparison)
    notes = dict.fromkeys(f"data: {note}" for plan in plans for note in plan.data.notes)
    greeting, data_bytes = "\n  ".join((str(ComparisonCost.of(comparison, plans)), *notes)), decoded_bytes(images)
    with command_session(comparison, ComparisonHistory(), greeting, address, resume, data_bytes) as (screen, context):
        progress = ComparisonProgress(screen, comparison.name, comparison.num_cells, context.share.concurrency)
        context.journal.listeners.append(progress)

        @contextlib.contextmanager
        def row_progress(space: SearchExperiment, journal: SearchJournal, share: Share) -> Iterator[Observer]:
            with SearchProgress(screen, space, space.search.trials, share.concurrency) as of_row:
                journal.listeners.append(of_row)
                yield of_row

        def body() -> ComparisonResult:
            return run_comparison(context, comparison, images, progress, row_progress)

        result = run_guarded("compare", context, address, progress, body)
        if result is not None:
            progress.show(closing_lines(result, context.directory))
        return result


if __name__ == "__main__":
    raise SystemExit(main())
