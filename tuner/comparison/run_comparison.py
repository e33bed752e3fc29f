"""Steps of a comparison: search the rows that have a search, train every arm with every seed, test and tabulate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import Any

from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.loading import load_test, source_key, test_key
from tuner.cluster.capacity import LiveCapacity
from tuner.cluster.free_gpu import spread_over_free
from tuner.cluster.gpu_probe import resolve_share, retry_with_larger_share
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey
from tuner.comparison.cell import CellKey, CellUnscored, MeasureSettings, train_cell
from tuner.comparison.comparison_experiment import Arm, ComparisonExperiment
from tuner.comparison.comparison_result import ComparisonResult, comparison_result_of, write_tables
from tuner.execution.hardware import decided_precisions, record_hardware
from tuner.execution.observer import Observer
from tuner.execution.run_baselines import search_probes
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
from tuner.experiment.search_experiment import SearchExperiment, with_precisions
from tuner.experiment.tree import flatten
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import counted
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, ComparisonStarted, RowSearched, SearchEnded, ShareGrown
from tuner.record.history import ComparisonHistory
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.record.selection import best_trial
from tuner.resources.share import Share

ComparisonContext = RunContext[ComparisonHistory]

RowObserver = Callable[[SearchExperiment, SearchJournal, Share], AbstractContextManager[Observer]]
"""Function that makes the observer of a row's search, as a context manager."""

Job = tuple[CellKey, TrialConfig, Arm]


def run_comparison(
    context: ComparisonContext,
    comparison: ComparisonExperiment,
    images: ImagesByKey,
    observer: Observer,
    row_observer: RowObserver,
) -> ComparisonResult:
    """Runs a checked comparison, or the rest of a resumed one, and returns its result.

    `images` are from `load_comparison_images`. Every outcome is recorded in the journal.

    Raises:
        KeyboardInterrupt: if it is interrupted, after the journal has recorded it; finished trainings are kept.
        Exception: any error that ended it, likewise.
    """
    started_s, journal = time.monotonic(), context.journal
    precisions = decided_precisions(context.share, journal.history)
    arms = tuple(replace(arm, space=with_precisions(arm.space, precisions)) for arm in comparison.arms)
    comparison = replace(comparison, arms=arms)
    with end_recorded(journal, comparison_ended):
        journal.append(ComparisonStarted(name=comparison.name, run=context.directory.run, space=comparison.as_tree()))
        record_hardware(context.share, journal, observer)
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
    """Decodes the training images of every arm and column. Raises BadInput with every file that cannot be decoded."""
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
    """Runs the searches of the rows that have one, each with a journal of its own."""
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
    """Searches the settings of an arm, or resumes its search. Returns the choice by validation."""
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
        probes = search_probes(space, images, share, journal, observer)
        ending = search_trials(space, images, share, journal, observer, probes)
        best = best_trial(journal.history.trials.values())
        if (journal.history.gpus or 0.0) > share.gpus:
            assert journal.history.gpus is not None
            outer.append(ShareGrown(gpus=journal.history.gpus, reason=f"as in {directory.run}"))
        journal.append(SearchEnded(outcome="finished", why=ending, best_trial=None if best is None else best.number))
    objective = space.search.objective
    if best is None:
        return RowSearched(row=arm.row, column=arm.column, objective=objective)
    return RowSearched(
        row=arm.row,
        column=arm.column,
        trial=best.number,
        params=best.params,
        val_top1=best.val_top1,
        objective=objective,
        val_objective=best.value,
    )


def train_cells(
    comparison: ComparisonExperiment, images: ImagesByKey, context: ComparisonContext, observer: Observer
) -> None:
    """Runs every training that has no score yet. The test split is loaded only here, after all choices."""
    journal = context.journal

    def note_capacity(changed: Share) -> None:
        observer.concurrency = changed.concurrency
        observer.say(f"the cluster has changed: room for {counted(changed.concurrency, 'training')} at once")

    def train_missing(share: Share) -> None:
        jobs = list(missing_cells(comparison, journal.history))
        if not jobs:
            return
        share = spread_over_free(share, len(jobs))
        configs = {key: config for key, config, _ in jobs}
        observer.enter_phase(f"training, {share.concurrency} at once")
        observer.concurrency = share.concurrency
        arguments, capacity = _with_images(comparison, jobs, images, share), LiveCapacity(share, note_capacity)
        for ended in as_completed(train_cell, arguments, share, capacity=capacity, failed=unscored):
            journal.append(ended.event(flatten(configs[ended.key].model_dump(mode="json"))))

    if any(missing_cells(comparison, journal.history)):
        with observer:
            retry_with_larger_share(context.share, journal, train_missing)


def unscored(job: tuple[Any, ...], reason: str) -> CellUnscored:
    """Makes the outcome of a training whose processes died; it may be repeated."""
    return CellUnscored(job[0], without_credentials(reason), diverged=False)


def missing_cells(comparison: ComparisonExperiment, history: ComparisonHistory) -> Iterator[Job]:
    """Yields the trainings without a score, seed by seed, so that an interrupted comparison has complete pairs.

    A training that diverged is not repeated, as it would again; one that failed otherwise is.
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
    """Returns the arm's configuration: fixed, or chosen by its search; None if that has no complete trial."""
    if not arm.is_searched:
        return arm.space.trial_config({})
    chosen = history.chosen.get((arm.row, arm.column))
    return None if chosen is None or chosen.trial is None else arm.space.trial_config(chosen.params)


def _with_images(
    comparison: ComparisonExperiment, jobs: Sequence[Job], images: ImagesByKey, share: Share
) -> Iterator[tuple[Any, ...]]:
    """Yields the arguments of `train_cell` for each job, with every array in the object store once."""
    arms = [arm for _, _, arm in jobs]
    tests = {test_key(arm.column_data): arm.column_data for arm in arms}
    test_refs = {key: put_shared(load_test(data)) for key, data in tests.items()}
    train_refs: dict[str, Any] = {}

    def train_ref(key: str) -> Any:
        if key not in train_refs:
            train_refs[key] = put_shared(images[key])
        return train_refs[key]

    for key, config, arm in jobs:
        measures = MeasureSettings(comparison.compare.measures, arm.column_data, config.training.eval_batch_size)
        trained_on, column = train_ref(source_key(config.data)), train_ref(source_key(arm.column_data))
        yield key, config, measures, trained_on, column, test_refs[test_key(arm.column_data)], share
