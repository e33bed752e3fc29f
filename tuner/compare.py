"""The compare command, and the story that it tells: search the rows that ask for it, train every row in every column
with every seed, say which is better and how sure that is.

python -m tuner.compare --space search_spaces/compare/digits.yaml
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from rich.console import Console

from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.loading import load_test, source_key, test_key
from tuner.cli.arguments import FAILED, FOUND, experiment_parser, guarded, overrides_of, parsed, with_space
from tuner.cli.comparison_progress import ComparisonProgress
from tuner.cli.dry_run import print_comparison
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.gpu_probe import resolve_share, retry_with_larger_share
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, decoded_bytes
from tuner.cluster.tune import run_trials
from tuner.comparison.budget import ComparisonCost
from tuner.comparison.cell import CellFinished, CellKey, Measuring, train_cell
from tuner.comparison.comparison_experiment import Arm, ComparisonExperiment, check_comparison, load_comparison
from tuner.comparison.comparison_result import (
    MARKDOWN,
    ComparisonResult,
    closing_lines,
    comparison_result_of,
    write_tables,
)
from tuner.execution.run_context import RunContext, run_guarded, session, tracked
from tuner.experiment.checks import Plan, boundary_configs, load_training
from tuner.experiment.extends import locate_problems
from tuner.experiment.tree import flatten
from tuner.record.history import History
from tuner.record.journal import Journal
from tuner.record.selection import best_trial
from tuner.resources.share import Share
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.warm_start import apply_warm_start


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: every row has a score in every column; 2: bad input; 1: anything else."""
    arguments = parsed(parser(), argv)
    return guarded(lambda: run(with_space(arguments)))


def parser() -> argparse.ArgumentParser:
    """The command line; a contract, held by a test."""
    return experiment_parser("compare")


def run(arguments: argparse.Namespace) -> int:
    """From the arguments to the exit code."""
    with locate_problems(arguments.space, dict(arguments.set)):
        comparison = load_comparison(arguments.space, overrides_of(arguments), arguments.smoke)
        plans = check_comparison(comparison)
    if arguments.dry_run:
        print_comparison(Console(highlight=False), comparison, plans, arguments.address)
        return FOUND
    result = compare(comparison, plans, arguments.address, bool(arguments.resume))
    if result is None:
        return FAILED
    if arguments.json:
        result.write(arguments.json)
    return FOUND if result.complete else FAILED


def compare(
    comparison: ComparisonExperiment, plans: Sequence[Plan], address: str | None = None, resume: bool = False
) -> ComparisonResult | None:
    """Runs a checked comparison, or goes on with its latest run; None where it was cut off, which has then been said.

    Raises:
        BadInput: before the first training, with everything that stands in the way.
    """
    started = time.monotonic()
    images = load_training(_variants(comparison), comparison.file)
    greeting, data_bytes = str(ComparisonCost.of(comparison, plans)), decoded_bytes(images)
    with session(comparison, greeting, address, resume, data_bytes) as opened:
        directory, journal = opened.directory, opened.journal
        progress = ComparisonProgress(opened.screen, comparison.name, comparison.num_cells, opened.share.concurrency)
        journal.listeners.append(progress)

        def story() -> ComparisonResult:
            journal.append("comparison_started", name=comparison.name, run=directory.name, **_described(comparison))
            spaces = [arm.space for arm in comparison.arms]
            share = resolve_share(opened.share, spaces, images, comparison.search.folds, journal)
            running, progress.concurrency = replace(opened, share=share), share.concurrency
            if running.share.note:
                progress.say(running.share.note)
            search_rows(comparison, images, running, progress)
            train_cells(comparison, images, running, progress)
            seconds = time.monotonic() - started
            write_tables(comparison, directory, journal.history)
            journal.append("comparison_finished", why="every training has ended", seconds=seconds)
            return comparison_result_of(comparison, directory, journal.history, running.uri, seconds)

        result = run_guarded(opened, progress, "compare", story)
        if result is not None:
            progress.show(closing_lines(result, (directory / MARKDOWN).read_text(encoding="utf-8")))
        return result


def search_rows(
    comparison: ComparisonExperiment, images: ImagesByKey, running: RunContext, progress: ComparisonProgress
) -> None:
    """The searches of rows that have one, each a search of its own with its own journal, in `searches/`."""
    for number, arm in enumerate(comparison.arms):
        chosen = running.journal.history.chosen.get((arm.row, arm.column))
        if arm.is_searched and (chosen is None or chosen["trial"] is None):
            progress.enter_phase(f"searching {arm}")
            best = _search_arm(arm, number, images, running)
            running.journal.append("row_searched", row=arm.row, column=arm.column, **best)


def _search_arm(arm: Arm, number: int, images: ImagesByKey, running: RunContext) -> dict[str, Any]:
    """What validation chooses of the arm's trials; a search that was cut off goes on."""
    space, directory = arm.space, running.directory / "searches" / f"{number:02d}"
    share = running.share.at_least(running.journal.history.gpus)
    with (
        closing(Journal(directory)) as journal,
        tracked(journal, running.uri, space.name),
        SearchProgress(running.screen, space, space.search.trials, share.concurrency) as progress,
    ):
        journal.listeners.append(progress)
        run = f"{running.directory.name}-search-{number:02d}"
        journal.append("search_started", name=space.name, run=run, row=arm.row, column=arm.column, **space.described())
        try:
            for line in apply_warm_start(space, journal):
                progress.say(line)
            scheduler = TrialScheduler(space, journal)
            run_trials(scheduler, images, share, directory / "ray")
        except BaseException:
            journal.append("search_finished", why="the comparison was cut off")
            raise
        best = best_trial(journal.history.trials.values())
        if (journal.history.gpus or 0.0) > share.gpus:
            running.journal.append("share_grown", gpus=journal.history.gpus, reason=f"as in {directory.name}")
        found = (None, {}, None) if best is None else (best.number, best.params, best.val_top1)
        journal.append("search_finished", why=scheduler.ending, best_trial=found[0])
        return dict(zip(("trial", "params", "val_top1"), found, strict=True))


def train_cells(
    comparison: ComparisonExperiment, images: ImagesByKey, running: RunContext, progress: ComparisonProgress
) -> None:
    """Every training that has no score yet; the test split is loaded here, after everything has been chosen."""

    def train_missing(share: Share) -> None:
        jobs = list(missing_cells(comparison, running.journal.history))
        if not jobs:
            return
        configs = {key: config for key, config, _ in jobs}
        progress.enter_phase(f"training, {share.concurrency} at once")
        for ended in as_completed(train_cell, _with_images(comparison, jobs, images, share), share):
            kind = "cell_finished" if isinstance(ended, CellFinished) else "cell_failed"
            config = flatten(configs[ended.key].model_dump(mode="json"))
            running.journal.append(kind, config=config, **ended.as_fields())

    if any(missing_cells(comparison, running.journal.history)):
        with progress:
            retry_with_larger_share(running.share, running.journal, train_missing)


Job = tuple[CellKey, TrialConfig, Arm]


def missing_cells(comparison: ComparisonExperiment, history: History) -> Iterator[Job]:
    """What is still to be trained, seed by seed, so that a comparison that is cut off has whole pairs. A training that
    diverged would do so again; one that failed otherwise is tried again."""
    for seed in range(comparison.compare.seeds):
        for arm in comparison.arms:
            key = CellKey(arm.row, arm.column, seed)
            failure = history.cell_failures.get(key)
            if key in history.cells or (failure is not None and failure["diverged"]):
                continue
            config = chosen_config(arm, history)
            if config is not None:
                yield key, config, arm


def chosen_config(arm: Arm, history: History) -> TrialConfig | None:
    """The arm's settings: fixed, or what its search has chosen; None where that found nothing."""
    if not arm.is_searched:
        return arm.space.trial_config({})
    chosen = history.chosen.get((arm.row, arm.column))
    return None if chosen is None or chosen["trial"] is None else arm.space.trial_config(chosen["params"])


def _with_images(
    comparison: ComparisonExperiment, jobs: Sequence[Job], images: ImagesByKey, share: Share
) -> Iterator[tuple[Any, ...]]:
    """The jobs as `train_cell` takes them; each array is in the object store once."""
    arms = [arm for _, _, arm in jobs]
    tests = {test_key(arm.column_data): arm.column_data for arm in arms}
    test_refs = {key: put_shared(load_test(data)) for key, data in tests.items()}
    train_refs: dict[str, Any] = {}

    def train_ref(key: str) -> Any:
        if key not in train_refs:
            train_refs[key] = put_shared(images[key])
        return train_refs[key]

    for key, config, arm in jobs:
        measuring = Measuring(comparison.compare.measures, arm.column_data, config.training.eval_batch_size)
        trained_on, column = train_ref(source_key(config.data)), train_ref(source_key(arm.column_data))
        yield key, config, measuring, trained_on, column, test_refs[test_key(arm.column_data)], share


def _variants(comparison: ComparisonExperiment) -> Iterator[DataConfig]:
    for arm in comparison.arms:
        yield next(boundary_configs(arm.space)).data
        yield arm.column_data


def _described(comparison: ComparisonExperiment) -> dict[str, Any]:
    tree = comparison.as_tree()
    return {"space": tree, "params": flatten(tree)}


if __name__ == "__main__":
    raise SystemExit(main())
