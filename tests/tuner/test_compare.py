"""The story of a comparison with Ray and MLflow left out: what is trained, in which order, and what never again."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.comparisons import ROWS, SEARCHED, comparison_of, fail_cell, finish_cell, write_yaml
from tests.tuner.test_cli import CONTRACT
from tests.tuner.tiny import fold
from trainables.data.loading import test_key as key_of_test
from trainables.results import RetrainResult
from tuner import compare
from tuner.cli.comparison_progress import ComparisonProgress
from tuner.cli.dry_run import print_comparison
from tuner.cluster.tasks import GpuOutOfMemory
from tuner.comparison.cell import CellFinished, CellKey, Measuring
from tuner.comparison.comparison_experiment import ComparisonExperiment, check_comparison
from tuner.comparison.comparison_result import closing_lines, comparison_result_of, tables_of, write_tables
from tuner.experiment.settings import ResourceSettings
from tuner.record.journal import Journal
from tuner.resources.share import Capacity, Share, share_of
from tuner.scheduling.scheduler import TrialScheduler

SHARE = Share(1, 0, 1)


class Stage:
    """A comparison's session without Ray: trainings end at once with a score of their own, searches score alpha."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = Journal(directory)
        self.screen = io.StringIO()
        console = Console(file=self.screen, width=200, highlight=False)
        self.session: Any = SimpleNamespace(
            journal=self.journal, directory=directory, share=SHARE, screen=console, uri="sqlite://"
        )
        self.trained: list[CellKey] = []
        self.alphas: list[float] = []
        self.calls: list[str] = []
        self.jobs: list[tuple[Any, ...]] = []
        monkeypatch.setattr(compare, "run_trials", self.run_trials)
        monkeypatch.setattr(compare, "as_completed", self.as_completed)
        monkeypatch.setattr(compare, "put_shared", lambda value: value)
        monkeypatch.setattr(compare, "load_test", self.load_test)
        monkeypatch.setattr(compare, "tracked", lambda journal, uri, name: io.StringIO())

    def run_trials(self, scheduler: TrialScheduler, images: Any, share: Share, directory: Path) -> None:
        self.calls.append("search")
        while (assignment := scheduler.next_assignment()) is not None:
            for k in assignment.folds:
                scheduler.fold_finished(assignment.number, fold(k, assignment.config.method.alpha))

    def load_test(self, data: Any) -> str:
        self.calls.append("load_test")
        return "test"

    def as_completed(self, task: Any, jobs: Iterator[tuple[Any, ...]], share: Share) -> Iterator[CellFinished]:
        for job in jobs:
            self.jobs.append(job)
            key, config = job[:2]
            self.trained.append(key)
            self.alphas.append(getattr(config.method, "alpha", 0.0))
            score = 0.5 + 0.1 * key.seed + (0.2 if key.row == "SMILE" else 0.0)
            yield CellFinished(key, RetrainResult(key.seed, score, 1.0, [1], {"target_label": [1.0]}), {})

    def run(self, comparison: ComparisonExperiment) -> None:
        images: Any = dict.fromkeys(map(compare.source_key, compare._variants(comparison)), "train")
        progress = ComparisonProgress(self.session.screen, comparison.name, comparison.num_cells, 1)
        if progress not in self.journal.listeners:
            self.journal.listeners.append(progress)
        compare.search_rows(comparison, images, self.session, progress)
        compare.train_cells(comparison, images, self.session, progress)


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
    trials = Journal(stage.session.directory / "searches" / "02").history.trials.values()
    best = max(trial.params["alpha"] for trial in trials)
    chosen = stage.journal.history.chosen["searched", "20"]
    assert (chosen["params"], chosen["val_top1"]) == ({"alpha": best}, pytest.approx(best))
    used = {alpha for key, alpha in zip(stage.trained, stage.alphas, strict=True) if key[:2] == ("searched", "20")}
    assert used == {best}
    stage.calls.clear()
    stage.run(comparison)
    assert stage.calls == []


def test_a_share_of_a_card_that_a_search_found_too_little_is_so_for_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Capacity(8, 1)]
    stage.session.share = share_of(nodes, ResourceSettings(gpus="auto"), "auto").dividing_cards_by(0.125)
    given: list[float] = []

    def run_trials(scheduler: TrialScheduler, images: Any, share: Share, directory: Path) -> None:
        given.append(share.gpus)
        if len(given) == 1:
            assignment = scheduler.next_assignment()
            assert assignment is not None
            scheduler.out_of_memory(assignment.number, 1, share.gpus, "CUDA out of memory")
        stage.run_trials(scheduler, images, share, directory)

    monkeypatch.setattr(compare, "run_trials", run_trials)
    stage.run(comparison_of(compare__rows=[*ROWS, SEARCHED]))
    assert given == [0.125, 0.25]
    assert {job[-1].gpus for job in stage.jobs} == {0.25}


def test_a_training_that_finds_its_card_full_is_given_more_and_the_others_are_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.session.share = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").dividing_cards_by(0.5)

    def as_completed(task: Any, jobs: Any, share: Share) -> Iterator[CellFinished]:
        for count, ended in enumerate(stage.as_completed(task, jobs, share)):
            if share.gpus < 1 and count == 1:
                raise GpuOutOfMemory("CUDA out of memory")
            yield ended

    monkeypatch.setattr(compare, "as_completed", as_completed)
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
        patch.setattr(compare, "run_trials", cut_off)
        with pytest.raises(KeyboardInterrupt):
            stage.run(comparison)
    stage.run(comparison)
    trials = Journal(stage.session.directory / "searches" / "02").history.trials
    assert [len(trial.folds) for trial in trials.values()] == [2, 2]


def test_a_search_that_finds_nothing_leaves_its_row_empty(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(scheduler: TrialScheduler, *_: Any) -> None:
        while (assignment := scheduler.next_assignment()) is not None:
            scheduler.trial_failed(assignment.number, 1, "diverged")

    monkeypatch.setattr(compare, "run_trials", fail)
    comparison = comparison_of(compare__rows=[*ROWS, SEARCHED])
    stage.run(comparison)
    assert {key.row for key in stage.trained} == {"L²", "SMILE"}
    assert "searched | 20: the search found nothing that could be trained" in stage.screen.getvalue()
    result = comparison_result_of(comparison, Path("x"), stage.journal.history, "sqlite://", 1.0)
    assert not result.complete


def test_measures_are_of_the_columns_images(stage: Stage) -> None:
    rows = [*ROWS, {"label": "more", "method": {"name": "l2"}, "data": {"train_images": 50}}]
    comparison = comparison_of(compare__rows=rows, compare__measures=["interpolation"])
    stage.run(comparison)
    measuring: Measuring = stage.jobs[2][2]
    assert stage.jobs[2][0] == CellKey("more", "20", 0)
    assert stage.jobs[2][1].data.train_images == 50
    assert (measuring.names, measuring.data.train_images) == (("interpolation",), 20)


def test_columns_of_one_test_split_share_it() -> None:
    arms = comparison_of().arms
    assert len({key_of_test(arm.column_data) for arm in arms}) == 1
    other = comparison_of(compare__columns=[{"label": "a", "data": {"test_images": 30}}, {"label": "b"}]).arms
    assert len({key_of_test(arm.column_data) for arm in other}) == 2


class TestVerdict:
    def test_is_all_scores_and_agrees_with_the_tables(self, stage: Stage, tmp_path: Path) -> None:
        comparison = comparison_of()
        stage.run(comparison)
        result = comparison_result_of(comparison, tmp_path, stage.journal.history, "https://me:secret@host", 3.0)
        assert result.complete
        assert (len(result.scores), len(result.entries)) == (8, 4)
        smile = next(e for e in result.entries if (e["row"], e["column"]) == ("SMILE", "30"))
        assert (smile["mean"], smile["best"], smile["pairs"]) == (pytest.approx(0.75), True, 2)
        assert smile["difference"] == pytest.approx(0.2)
        result.write(tmp_path / "deep" / "verdict.json")
        text = (tmp_path / "deep" / "verdict.json").read_text()
        assert json.loads(text)["rows"] == ["L²", "SMILE"]
        assert "secret" not in text

    def test_is_incomplete_while_a_row_has_no_score(self, stage: Stage, tmp_path: Path) -> None:
        finish_cell(stage.journal, "L²", "20", 0, 0.5)
        fail_cell(stage.journal, "SMILE", "20", 0)
        result = comparison_result_of(comparison_of(), tmp_path, stage.journal.history, "sqlite://", 3.0)
        assert not result.complete
        assert result.failures == [{"row": "SMILE", "column": "20", "seed": 0, "reason": "diverged"}]
        assert "  failed         SMILE | 20 | seed 0: diverged" in list(closing_lines(result, ""))

    def test_interpolation_has_tables_of_its_own(self, stage: Stage, tmp_path: Path) -> None:
        comparison = comparison_of(compare__measures=["interpolation"], compare__columns=[{"label": "all"}])
        parts = itertools.product(("label", "feature"), ("", "_relative"), ("train", "test"))
        names = [f"{name}_il{kind}_{split}" for name, kind, split in parts]
        for row, value in (("L²", 2.0), ("SMILE", 1.0)):
            for seed in range(2):
                finish_cell(stage.journal, row, "all", seed, 0.5, **dict.fromkeys(names, value + seed))
        accuracy, absolute, relative = tables_of(comparison, stage.journal.history)
        expected = ["Label-IL train", "Label-IL test", "Feature-IL train", "Feature-IL test"]
        assert [heading.text for heading in absolute.headings] == expected
        assert [entry.best for entry in absolute.entries[1]] == [True] * 4
        assert relative.entries[0][0].mean == accuracy.entries[0][0].mean * 5  # type: ignore[operator]
        write_tables(comparison, tmp_path, stage.journal.history)
        assert "| SMILE | **1.500 ± 0.707** |" in (tmp_path / "comparison.md").read_text()
        assert "<strong>1.500 ± 0.707</strong>" in (tmp_path / "comparison.html").read_text()


class TestTally:
    def test_says_scores_failures_and_the_time_left(self, stage: Stage) -> None:
        console = Console(file=stage.screen, width=200, highlight=False)
        stage.journal.listeners.append(ComparisonProgress(console, "tiny", num_cells=8, concurrency=2))
        finish_cell(stage.journal, "L²", "20 [%]", 0, 0.51234)
        fail_cell(stage.journal, "SMILE", "20 [%]", 0)
        stage.journal.append("row_searched", row="a", column="b", trial=1, params={}, val_top1=0.75)
        assert stage.screen.getvalue().splitlines() == [
            "[0:00] L² | 20 [%] | seed 0: test top-1 0.5123 in 0:02  | 1/8 trainings, about 0:05 left",
            "[0:00] SMILE | 20 [%] | seed 0 failed: diverged  | 1/8 trainings, 1 failed, about 0:04 left",
            "[0:00] a | b: val top-1 0.7500, chosen",
        ]

    def test_is_live_on_a_terminal(self, stage: Stage) -> None:
        progress = ComparisonProgress(Console(file=stage.screen, force_terminal=True, width=120), "tiny", 8, 2)
        stage.journal.listeners.append(progress)
        with progress:
            finish_cell(stage.journal, "L²", "20", 0, 0.5)
            assert progress._live is not None
            progress._live.refresh()
        assert "1/8 trainings" in stage.screen.getvalue()


class TestCommandLine:
    def test_the_flags_are_those_of_the_search_but_for_its_trials(self) -> None:
        flags = {action.option_strings[-1]: action.metavar or "" for action in compare.parser()._actions}
        assert flags == {flag: takes for flag, takes in CONTRACT.items() if flag not in ("--trials", "--warm-start")}

    def test_a_dry_run_says_what_it_costs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tuner.cli.dry_run.this_machine", lambda: Capacity(2, 0))
        monkeypatch.setattr("ray.init", None)  # nothing is started
        comparison, screen = comparison_of(compare__rows=[*ROWS, SEARCHED]), io.StringIO()
        console = Console(file=screen, width=120, highlight=False)
        print_comparison(console, comparison, check_comparison(comparison), None)
        said = screen.getvalue()
        assert "3 rows × 2 columns × 2 seeds = 12 trainings, 24 steps; searches of 8 folds, 16 steps" in said
        assert "40 steps in all, about 20 one after the other" in said
        assert "searched: 2 trials × 2 folds" in said
        assert "2 trials at once" in said

    def test_bad_input_starts_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = write_yaml(tmp_path, compare__reference="none", tracking__directory=str(tmp_path / "experiments"))
        assert compare.main(["--space", str(file)]) == 2
        assert f"error: {file}: compare: reference must be a row's label" in capsys.readouterr().err
        assert not (tmp_path / "experiments").exists()
