"""Searches, retrains the best configuration, registers its model: `python -m tuner.search --space
search_spaces/smile.yaml`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
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
    from tuner.experiment.checks import Plan
    from tuner.experiment.search_experiment import SearchExperiment
    from tuner.reports.search_result import SearchResult


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: there is a best configuration, or a baseline; 2: bad input; 1: any other end."""
    arguments = parse_arguments(parser(), argv)
    return guarded(lambda: run(resolve_space_file(arguments)))


def parser() -> argparse.ArgumentParser:
    """Builds the command line; a contract, held by a test."""
    parser = experiment_parser("search")
    parser.add_argument("--trials", type=int, metavar="N", help="override search.trials")
    help = "start from the trials of an earlier search: its directory, name or name/run, or MLflow run id; repeatable"
    parser.add_argument("--warm-start", action="append", metavar="RUN", help=help)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Checks the experiment, then shows its plan or runs it. Returns the exit code."""
    say_first(arguments)
    started_s = time.monotonic()
    from tuner.experiment.extends import locate_problems

    plan, notes = checked_plan(arguments, arguments.dry_run)
    space = plan.space
    if arguments.dry_run:
        from tuner.cli.console import text_console
        from tuner.cli.dry_run import print_plan

        with locate_problems(arguments.space, overrides_of(arguments), flags_of(arguments)):
            print_plan(text_console(), space, plan, arguments.address, notes)
        return SUCCEEDED
    with locate_problems(arguments.space, overrides_of(arguments), flags_of(arguments)):
        result = search(space, plan, arguments.address, bool(arguments.resume), started_s)
    if result is None:
        return FAILED
    is_written = write_json(result.write, arguments.json)
    return SUCCEEDED if is_written and result.winner is not None else FAILED


def checked_plan(arguments: argparse.Namespace, is_dry: bool) -> tuple[Plan, tuple[str, ...]]:
    """Checks the experiment of the command line. Returns its plan, and lines about the evidence from earlier searches.

    `is_dry` checks as well that there is a run to resume, where one is asked for, which otherwise the start does.

    Raises:
        BadInput: with every problem found.
    """
    from tuner.execution.check import check_resumable, check_search
    from tuner.experiment.extends import locate_problems

    with locate_problems(arguments.space, overrides_of(arguments), flags_of(arguments)):
        plan = check_search(resolve_space(arguments), outputs_of(arguments))
        notes = () if arguments.resume else warm_start_notes(plan.space)
        if is_dry and arguments.resume:
            check_resumable(plan.space)
        return plan, notes


def resolve_space(arguments: argparse.Namespace) -> SearchExperiment:
    """Reads the experiment of the command line: the file, its overrides, and those of `--smoke`.

    Raises:
        BadInput: with every problem found, also in the other sections if one is missing.
    """
    from trainables.errors import BadInput
    from tuner.experiment.checks import problems_of_sections
    from tuner.experiment.search_experiment import load_experiment, parse_experiment, read_tree
    from tuner.experiment.smoke import smoke_overrides

    overrides = overrides_of(arguments)
    tree = read_tree(arguments.space, overrides)
    try:
        space = parse_experiment(tree, str(arguments.space))
    except BadInput as bad:
        others = BadInput(problems_of_sections(tree)).in_file(str(arguments.space))
        raise BadInput([*bad.problems, *others.problems]) from None
    if arguments.smoke:
        smoke = smoke_overrides(space)
        flags = flags_of(arguments) | dict.fromkeys(smoke, "--smoke")
        space = load_experiment(arguments.space, overrides | smoke, flags)
    return space


def warm_start_notes(space: SearchExperiment) -> tuple[str, ...]:
    """Returns lines about the evidence from earlier searches. Raises BadInput if one is not found."""
    if not space.search.warm_start:
        return ()
    from tuner.scheduling.warm_start import collect_warm_start

    return collect_warm_start(space).notes


def search(
    space: SearchExperiment,
    plan: Plan,
    address: str | None = None,
    resume: bool = False,
    started_s: float | None = None,
) -> SearchResult | None:
    """Runs a checked experiment on the terminal, or resumes its latest run. Returns None if it is interrupted or fails,
    with a message.

    `started_s` is the reading of `time.monotonic` from which `search.minutes` count (None: now).

    Raises:
        BadInput: before the first trial, as `command_session`.
    """
    from tuner.cli.search_progress import SearchProgress
    from tuner.cli.session import command_session, run_guarded
    from tuner.cluster.trainable import decoded_bytes
    from tuner.execution.run_search import run_search
    from tuner.experiment.balance import balance_notes
    from tuner.experiment.checks import load_images
    from tuner.record.history import SearchHistory
    from tuner.reports.search_result import closing_lines

    started_s = time.monotonic() if started_s is None else started_s
    images = load_images(space)
    greeting = "\n  ".join((plan.greeting, *balance_notes(plan)))
    with (
        command_session(space, SearchHistory(keeps_curves=False), greeting, address, resume, decoded_bytes(images)) as (
            screen,
            context,
        ),
        SearchProgress(screen, space, plan.num_trials, context.share.concurrency) as progress,
    ):
        context.journal.listeners.append(progress)
        progress.live_steps = context.directory.live_steps
        result = run_guarded(
            "search", context, address, progress, lambda: run_search(context, space, plan, images, progress, started_s)
        )
        if result is not None:
            progress.show(closing_lines(result, context.journal.history))
        return result


if __name__ == "__main__":
    raise SystemExit(main())
