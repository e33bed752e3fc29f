"""A comparison as a story: search the rows that ask for it, train every row in every column with every seed, test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.loading import load_test, source_key, test_key
from tuner.cluster.gpu_probe import resolve_share, retry_with_larger_share
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey
from tuner.comparison.cell import CellKey, MeasureSettings, train_cell
from tuner.comparison.comparison_experiment import Arm, ComparisonExperiment
from tuner.comparison.comparison_result import ComparisonResult, comparison_result_of, write_tables
from tuner.execution.observer import Observer
from tuner.execution.run_context import (
    RunContext,
    comparison_ended,
    end_recorded,
    search_ended,
    synced,
    wait_for_mlflow,
)
from tuner.execution.run_search import search_started, search_trials
from tuner.experiment.checks import load_training
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.tree import flatten
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, ComparisonStarted, RowSearched, SearchEnded, ShareGrown
from tuner.record.history import ComparisonHistory
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.record.selection import best_trial
from tuner.resources.share import Share

ComparisonContext = RunContext[ComparisonHistory]

RowObserver = Callable[[SearchExperiment, SearchJournal, Share], AbstractContextManager[Observer]]
"""Watches the search of a row: a context manager that gives the observer."""

Job = tuple[CellKey, TrialConfig, Arm]


def run_comparison(
    context: ComparisonContext,
    comparison: ComparisonExperiment,
    images: ImagesByKey,
    observer: Observer,
    row_observer: RowObserver,
) -> ComparisonResult:
    """Runs a checked comparison in its context, or the rest of it; records how it ended, whatever that is.

    Raises:
        KeyboardInterrupt, or what went wrong: after the journal says so. Every finished training is kept.
    """
    started_s, journal = time.monotonic(), context.journal
    with end_recorded(journal, comparison_ended):
        journal.append(ComparisonStarted(name=comparison.name, run=context.directory.run, space=comparison.as_tree()))
        spaces = [arm.space for arm in comparison.arms]
        share = resolve_share(context.share, spaces, images, comparison.search.folds, journal)
        context, observer.concurrency = context.with_share(share), share.concurrency
        if share.note:
            observer.say(share.note)
        search_rows(comparison, images, context, observer, row_observer)
        train_cells(comparison, images, context, observer)
        duration_s = time.monotonic() - started_s
        write_tables(comparison, context.directory, journal.history)
        journal.append(ComparisonEnded(outcome="finished", why="every training has ended", duration_s=duration_s))
        wait_for_mlflow(context, observer)
        return comparison_result_of(comparison, context.directory, journal.history, context.uri, duration_s)


def load_comparison_images(comparison: ComparisonExperiment) -> ImagesByKey:
    """Decodes the training images of every arm and column. Raises BadInput naming every file that does not decode."""
    return load_training(_variants(comparison), comparison.file)


def _variants(comparison: ComparisonExperiment) -> Iterator[DataConfig]:
    for arm in comparison.arms:
        yield next(iter(arm.space.boundary_configs())).data
        yield arm.column_data


def search_rows(
    comparison: ComparisonExperiment,
    images: ImagesByKey,
    context: ComparisonContext,
    observer: Observer,
    row_observer: RowObserver,
) -> None:
    """Runs the searches of rows that have one, each with a journal of its own."""
    for number, arm in enumerate(comparison.arms):
        chosen = context.journal.history.chosen.get((arm.row, arm.column))
        if arm.is_searched and (chosen is None or chosen.trial is None):
            observer.enter_phase(f"searching {arm}")
            context.journal.append(
                _search_arm(arm, context.directory.row_search(number), images, context, row_observer)
            )


def _search_arm(
    arm: Arm, directory: RunDirectory, images: ImagesByKey, context: ComparisonContext, row_observer: RowObserver
) -> RowSearched:
    """Searches the settings of an arm, or resumes that; what validation chooses of its trials."""
    space, outer = arm.space, context.journal
    share = context.share.at_least(outer.history.gpus)
    with (
        closing(open_search_journal(directory)) as journal,
        synced(journal, context.uri, space.name),
        row_observer(space, journal, share) as observer,
        end_recorded(journal, search_ended),
    ):
        started = search_started(space, directory, arm.row, arm.column)
        journal.append(started.model_copy(update={"run": f"{context.directory.run}-search-{directory.run}"}))
        ending = search_trials(space, images, share, journal, observer)
        best = best_trial(journal.history.trials.values())
        if (journal.history.gpus or 0.0) > share.gpus:
            assert journal.history.gpus is not None
            outer.append(ShareGrown(gpus=journal.history.gpus, reason=f"as in {directory.run}"))
        journal.append(SearchEnded(outcome="finished", why=ending, best_trial=None if best is None else best.number))
    if best is None:
        return RowSearched(row=arm.row, column=arm.column)
    return RowSearched(row=arm.row, column=arm.column, trial=best.number, params=best.params, val_top1=best.val_top1)


def train_cells(
    comparison: ComparisonExperiment, images: ImagesByKey, context: ComparisonContext, observer: Observer
) -> None:
    """Runs every training that has no score yet; the test split is loaded here, after everything has been chosen."""
    journal = context.journal

    def train_missing(share: Share) -> None:
        jobs = list(missing_cells(comparison, journal.history))
        if not jobs:
            return
        configs = {key: config for key, config, _ in jobs}
        observer.enter_phase(f"training, {share.concurrency} at once")
        for ended in as_completed(train_cell, _with_images(comparison, jobs, images, share), share):
            journal.append(ended.event(flatten(configs[ended.key].model_dump(mode="json"))))

    if any(missing_cells(comparison, journal.history)):
        with observer:
            retry_with_larger_share(context.share, journal, train_missing)


def missing_cells(comparison: ComparisonExperiment, history: ComparisonHistory) -> Iterator[Job]:
    """Lists what is still to be trained, seed by seed, so that a comparison that is cut off has whole pairs.

    A training that diverged would do so again; one that failed otherwise is tried again.
    """
    for seed in range(comparison.compare.seeds):
        for arm in comparison.arms:
            key = CellKey(arm.row, arm.column, seed)
            failure = history.cell_failures.get(key)
            if key in history.cells or (failure is not None and failure.diverged):
                continue
            config = chosen_config(arm, history)
            if config is not None:
                yield key, config, arm


def chosen_config(arm: Arm, history: ComparisonHistory) -> TrialConfig | None:
    """The arm's settings: fixed, or those that its search has chosen; None where that found nothing."""
    if not arm.is_searched:
        return arm.space.trial_config({})
    chosen = history.chosen.get((arm.row, arm.column))
    return None if chosen is None or chosen.trial is None else arm.space.trial_config(chosen.params)


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
        measuring = MeasureSettings(comparison.compare.measures, arm.column_data, config.training.eval_batch_size)
        trained_on, column = train_ref(source_key(config.data)), train_ref(source_key(arm.column_data))
        yield key, config, measuring, trained_on, column, test_refs[test_key(arm.column_data)], share
