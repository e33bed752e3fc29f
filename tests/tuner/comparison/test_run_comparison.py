"""The story of a comparison with Ray and MLflow left out: what is trained, in which order, and what never again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.tuner.comparisons import ROWS, SEARCHED, comparison_of, fail_cell, finish_cell
from tests.tuner.tiny import fold
from trainables.data.loading import test_key as key_of_test
from trainables.data.texts import LabelledTexts
from trainables.results import RetrainResult
from tuner.cli.comparison_progress import ComparisonProgress
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.capacity import LiveCapacity
from tuner.cluster.tasks import GpuOutOfMemory
from tuner.comparison import run_comparison
from tuner.comparison.cell import CellKey, CellScored, MeasureSettings
from tuner.comparison.comparison_experiment import ComparisonExperiment
from tuner.comparison.comparison_result import comparison_result_of
from tuner.execution import run_search
from tuner.execution.observer import Observer
from tuner.execution.run_context import RunContext
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import ResourceSettings
from tuner.record.directory import RunDirectory
from tuner.record.history import SearchHistory
from tuner.record.journal import SearchJournal, open_comparison_journal
from tuner.resources.share import Capacity, Share, share_of
from tuner.scheduling.scheduler import TrialScheduler

SHARE = Share(1, 0, 1)
TRAIN = LabelledTexts.of(["a text"] * 5, np.zeros(5, dtype=np.int64), ["good"])


class Stage:
    """A comparison's session without Ray: trainings end at once with a score of their own, searches score alpha."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = open_comparison_journal(RunDirectory(directory))
        self.screen = io.StringIO()
        console = Console(file=self.screen, width=200, highlight=False)
        self.console = console
        self.context = RunContext(RunDirectory(directory), "sqlite://", SHARE, self.journal, Any)  # type: ignore[arg-type]
        self.trained: list[CellKey] = []
        self.alphas: list[float] = []
        self.calls: list[str] = []
        self.jobs: list[tuple[Any, ...]] = []
        monkeypatch.setattr(run_search, "run_trials", self.run_trials)
        for module in (run_search, run_comparison):
            monkeypatch.setattr(module, "spread_over_free", lambda share, num_jobs: share.spread_over(num_jobs))
        monkeypatch.setattr(run_comparison, "as_completed", self.as_completed)
        monkeypatch.setattr(run_comparison, "put_shared", lambda value: value)
        monkeypatch.setattr(run_comparison, "load_test", self.load_test)
        monkeypatch.setattr(run_comparison, "synced", lambda journal, uri, name: io.StringIO())

    def run_trials(self, scheduler: TrialScheduler, images: Any, share: Share, *_: Any) -> None:
        self.calls.append("search")
        while (assignment := scheduler.next_assignment()) is not None:
            for k in assignment.folds:
                scheduler.fold_finished(assignment.number, fold(k, assignment.config.method.alpha))

    def load_test(self, data: Any) -> str:
        self.calls.append("load_test")
        return "test"

    def as_completed(
        self, task: Any, jobs: Iterator[tuple[Any, ...]], share: Share, capacity: LiveCapacity, failed: Any
    ) -> Iterator[CellScored]:
        for job in jobs:
            self.jobs.append(job)
            key, config = job[:2]
            self.trained.append(key)
            self.alphas.append(getattr(config.method, "alpha", 0.0))
            score = 0.5 + 0.1 * key.seed + (0.2 if key.row == "SMILE" else 0.0)
            yield CellScored(key, RetrainResult(key.seed, score, 1.0, [1], {"target_label": [1.0]}), {})

    def run(self, comparison: ComparisonExperiment) -> None:
        variants = run_comparison._variants(comparison)
        images: Any = dict.fromkeys(map(run_comparison.source_key, variants), TRAIN)
        progress = ComparisonProgress(self.console, comparison.name, comparison.num_cells, 1)
        self.journal.listeners[:] = [progress]
        run_comparison.search_rows(comparison, images, self.context, progress, self.row_observer)
        run_comparison.train_cells(comparison, images, self.context, progress)

    @contextlib.contextmanager
    def row_observer(self, space: SearchExperiment, journal: SearchJournal, share: Share) -> Iterator[Observer]:
        yield SearchProgress(self.console, space, space.search.trials, share.concurrency)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_every_cell_is_trained_once_seed_by_seed(stage: Stage) -> None:
    stage.run(comparison_of())
    assert stage.trained == [
        CellKey(row, column, seed) for seed in range(2) for column in ("20", "30") for row in ("L²", "SMILE")
    ]


def test_a_resumed_comparison_trains_exactly_what_is_missing(stage: Stage) -> None:
    finish_cell(stage.journal, "L²", "20", 0, 0.5)
    finish_cell(stage.journal, "SMILE", "30", 1, 0.5)
    fail_cell(stage.journal, "L²", "30", 0, diverged=True)
    fail_cell(stage.journal, "SMILE", "20", 0, diverged=False)
    stage.run(comparison_of())
    assert stage.trained == [
        CellKey("SMILE", "20", 0),
        CellKey("SMILE", "30", 0),
        CellKey("L²", "20", 1),
        CellKey("SMILE", "20", 1),
        CellKey("L²", "30", 1),
    ]
    assert list(stage.journal.history.cell_failures) == [("L²", "30", 0)]
    stage.trained.clear()
    stage.run(comparison_of())
    assert stage.trained == []
    stage.run(comparison_of(compare__seeds=3))
    assert {key.seed for key in stage.trained} == {2}


def test_the_test_split_is_met_after_every_search(stage: Stage) -> None:
    stage.run(comparison_of(compare__rows=[*ROWS, SEARCHED]))
    assert stage.calls == ["search", "search", "load_test"]


def test_a_searched_row_is_trained_as_validation_has_chosen(stage: Stage) -> None:
    comparison = comparison_of(compare__rows=[*ROWS, SEARCHED])
    stage.run(comparison)
    trials = SearchHistory.read(stage.context.directory.row_search(2).journal).trials.values()
    best = max(trial.params["method.alpha"] for trial in trials)
    chosen = stage.journal.history.chosen["searched", "20"]
    assert (chosen.params, chosen.val_top1) == ({"method.alpha": best}, pytest.approx(best))
    used = {alpha for key, alpha in zip(stage.trained, stage.alphas, strict=True) if key[:2] == ("searched", "20")}
    assert used == {best}
    stage.calls.clear()
    stage.run(comparison)
    assert stage.calls == []


def test_a_rows_own_objective_chooses_its_trial(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_trials(scheduler: TrialScheduler, images: Any, share: Share, *_: Any) -> None:
        while (assignment := scheduler.next_assignment()) is not None:
            alpha = assignment.config.method.alpha
            for k in assignment.folds:  # the larger alpha has the better top-1 and the worse log loss
                scheduler.fold_finished(assignment.number, replace(fold(k, alpha), metrics={"log_loss": 1 + alpha}))

    monkeypatch.setattr(run_search, "run_trials", run_trials)
    searched = {**SEARCHED, "search": {**SEARCHED["search"], "objective": "log_loss"}}
    stage.run(comparison_of(compare__rows=[*ROWS, searched]))
    trials = SearchHistory.read(stage.context.directory.row_search(2).journal).trials.values()
    least = min(trial.params["method.alpha"] for trial in trials)
    chosen = stage.journal.history.chosen["searched", "20"]
    assert (chosen.params, chosen.objective) == ({"method.alpha": least}, "log_loss")
    assert (chosen.val_objective, chosen.val_top1) == (pytest.approx(1 + least), pytest.approx(least))


def test_a_share_of_a_card_that_a_search_found_too_little_is_so_for_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Capacity(8, 1)]
    stage.context = stage.context.with_share(share_of(nodes, ResourceSettings(gpus="auto"), "auto").sized_for(0.125))
    given: list[float] = []

    def run_trials(scheduler: TrialScheduler, images: Any, share: Share, *_: Any) -> None:
        given.append(share.gpus)
        if len(given) == 1:
            assignment = scheduler.next_assignment()
            assert assignment is not None
            scheduler.out_of_gpu_memory(assignment.number, 1, share.gpus, "CUDA out of memory")
        stage.run_trials(scheduler, images, share)

    monkeypatch.setattr(run_search, "run_trials", run_trials)
    stage.run(comparison_of(compare__rows=[*ROWS, SEARCHED]))
    assert given == [0.25, 0.5], "the few folds of the search get more than an eighth to begin with"
    assert {job[-1].gpus for job in stage.jobs} == {0.5}


def test_few_trainings_are_spread_over_all_cards(stage: Stage) -> None:
    nodes = [Capacity(64, 8)]
    stage.context = stage.context.with_share(share_of(nodes, ResourceSettings(gpus="auto"), "auto").sized_for(0.125))
    comparison = comparison_of()
    stage.run(comparison)
    assert len(stage.jobs) == comparison.num_cells == 8
    assert {job[-1].gpus for job in stage.jobs} == {1}


def test_a_training_that_finds_its_card_full_is_given_more_and_the_others_are_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.context = stage.context.with_share(
        share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.5)
    )

    def as_completed(task: Any, jobs: Any, share: Share, **options: Any) -> Iterator[CellScored]:
        for count, ended in enumerate(stage.as_completed(task, jobs, share, **options)):
            if share.gpus < 1 and count == 1:
                raise GpuOutOfMemory("CUDA out of memory", share.gpus)
            yield ended

    monkeypatch.setattr(run_comparison, "as_completed", as_completed)
    comparison = comparison_of()
    stage.run(comparison)
    assert len(stage.journal.history.cells) == comparison.num_cells
    assert len(stage.trained) == comparison.num_cells + 1
    assert stage.journal.history.gpus == 1


def test_a_search_that_was_cut_off_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(scheduler: TrialScheduler, *_: Any) -> None:
        assignment = scheduler.next_assignment()
        assert assignment is not None
        scheduler.fold_finished(assignment.number, fold(1, 0.5))
        raise KeyboardInterrupt

    comparison = comparison_of(compare__rows=[*ROWS, SEARCHED])
    with monkeypatch.context() as patch:
        patch.setattr(run_search, "run_trials", cut_off)
        with pytest.raises(KeyboardInterrupt):
            stage.run(comparison)
    stage.run(comparison)
    trials = SearchHistory.read(stage.context.directory.row_search(2).journal).trials
    assert [len(trial.folds) for trial in trials.values()] == [2, 2]


def test_a_search_that_finds_nothing_leaves_its_row_empty(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(scheduler: TrialScheduler, *_: Any) -> None:
        while (assignment := scheduler.next_assignment()) is not None:
            scheduler.trial_failed(assignment.number, 1, "diverged")

    monkeypatch.setattr(run_search, "run_trials", fail)
    comparison = comparison_of(compare__rows=[*ROWS, SEARCHED])
    stage.run(comparison)
    assert {key.row for key in stage.trained} == {"L²", "SMILE"}
    assert "searched | 20: no trial of the search is complete" in stage.screen.getvalue()
    result = comparison_result_of(comparison, stage.context.directory, stage.journal.history, "sqlite://", 1.0)
    assert not result.complete


def test_measures_are_of_the_columns_images(stage: Stage) -> None:
    rows = [*ROWS, {"label": "more", "method": {"name": "l2"}, "data": {"train_images": 50}}]
    comparison = comparison_of(compare__rows=rows, compare__measures=["interpolation"])
    stage.run(comparison)
    measures: MeasureSettings = stage.jobs[2][2]
    assert stage.jobs[2][0] == CellKey("more", "20", 0)
    assert stage.jobs[2][1].data.train_images == 50
    assert (measures.names, measures.data.train_images) == (("interpolation",), 20)


def test_columns_of_one_test_split_share_it() -> None:
    arms = comparison_of().arms
    assert len({key_of_test(arm.column_data) for arm in arms}) == 1
    other = comparison_of(compare__columns=[{"label": "a", "data": {"test_images": 30}}, {"label": "b"}]).arms
    assert len({key_of_test(arm.column_data) for arm in other}) == 2
