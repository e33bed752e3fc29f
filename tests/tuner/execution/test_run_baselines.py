"""Baselines are scored once each, and none that fails takes the search along."""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.tiny import fold, search_journal, search_started, space_of, write_photos
from trainables.data.loading import source_key
from trainables.near_twins import NearTwins
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.probes import SharedProbes
from tuner.cluster.tasks import GpuOutOfMemory, WorkerFailed
from tuner.cluster.worker_reports import FoldDone, FoldFailed
from tuner.execution import run_baselines as module
from tuner.execution.run_baselines import run_baselines, search_probes, start_baselines
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import ResourceSettings
from tuner.record.data_record import keep_inventories
from tuner.resources.share import Capacity, Share, share_of

SHARE = Share(1, 0, 1)
BOTH = ["linear_probe", "fine_tuning"]
SPACE = space_of(search__baselines=BOTH)
Fold = tuple[str, int]


class Stage:
    """A search before its first trial; `ends` says what becomes of a fold that is not simply scored."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = search_journal(directory)
        self.screen = io.StringIO()
        self.given: list[tuple[str, list[int], float]] = []
        self.ends: dict[Fold, FoldFailed | BaseException] = {}
        monkeypatch.setattr(module, "train_baseline", self.train_baseline)

    def train_baseline(
        self, name: str, config: Any, folds: list[int], examples: Any, probes: Any, search: Any, share: Share, *_: Any
    ) -> Generator[FoldDone | FoldFailed]:
        self.given.append((name, folds, share.gpus))
        for k in folds:
            end = self.ends.get((name, k))
            if isinstance(end, GpuOutOfMemory) and share.gpus == 1:
                end = None  # a whole card is enough
            if isinstance(end, BaseException):
                raise end
            yield end if end is not None else FoldDone(fold(k, 0.5))

    def run(self, space: SearchExperiment = SPACE, share: Share = SHARE) -> None:
        progress = SearchProgress(Console(file=self.screen), space, 2, 1)
        start_baselines(space, self.journal)
        key = source_key(next(space.boundary_configs()).data)
        images: Any = {key: None}
        run_baselines(space, images, {}, share, self.journal, progress)

    @property
    def states(self) -> dict[str, str]:
        return {name: record.state for name, record in self.journal.history.baselines.items()}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_each_is_scored_on_every_fold_and_only_once(stage: Stage) -> None:
    stage.run()
    assert stage.given == [("linear_probe", [1, 2], 0), ("fine_tuning", [1, 2], 0)]
    assert stage.states == {"linear_probe": "complete", "fine_tuning": "complete"}
    stage.run()
    assert len(stage.given) == 2


def test_one_that_is_interrupted_goes_on_with_its_missing_folds(stage: Stage) -> None:
    stage.ends = {("linear_probe", 2): KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        stage.run()
    stage.ends = {}
    stage.run()
    assert stage.given[1:] == [("linear_probe", [2], 0), ("fine_tuning", [1, 2], 0)]
    assert stage.states == {"linear_probe": "complete", "fine_tuning": "complete"}


@pytest.mark.parametrize("end", [FoldFailed(2, "fold 2 collapsed"), WorkerFailed("fold 2 collapsed")], ids=repr)
def test_one_that_fails_is_left_out_for_good(stage: Stage, end: Any) -> None:
    checkpoint = stage.journal.directory.fold_checkpoint("linear_probe", 2)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"")
    stage.ends = {("linear_probe", 2): end}
    stage.run()
    assert stage.states == {"linear_probe": "failed", "fine_tuning": "complete"}
    assert stage.journal.history.baselines["linear_probe"].reason == "fold 2 collapsed"
    assert not checkpoint.exists()
    stage.run()
    assert len(stage.given) == 2


def test_one_that_finds_its_card_full_is_given_more(stage: Stage) -> None:
    stage.ends = {("fine_tuning", 2): GpuOutOfMemory("CUDA out of memory", 0.125)}
    share = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.5)
    stage.run(share=share)
    assert stage.given[1:] == [("fine_tuning", [1, 2], 0.5), ("fine_tuning", [2], 1)]
    assert stage.states["fine_tuning"] == "complete"


def test_one_whose_share_of_a_card_is_too_small_and_fixed_is_left_out(stage: Stage) -> None:
    stage.ends = {("fine_tuning", 1): GpuOutOfMemory("CUDA out of memory", 0.125)}
    stage.run(share=Share(1, 0.5, 1))
    assert stage.states == {"linear_probe": "complete", "fine_tuning": "failed"}


def test_one_that_the_experiment_cannot_have_says_why(stage: Stage) -> None:
    stage.run(space_of(search__baselines=BOTH, backbone__pretrained=False))
    assert [name for name, *_ in stage.given] == ["fine_tuning"]
    reason = stage.journal.history.baselines["linear_probe"].reason
    assert reason == "expected a pre-trained backbone, got random weights"


def test_without_any_there_is_nothing(stage: Stage) -> None:
    stage.run(space_of(search__baselines=[]))
    assert (stage.given, stage.states) == ([], {})


def test_what_starts_from_a_probe_is_asked_for_it_and_a_failure_costs_no_search(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def share_probes(configs: Any, *_: Any) -> SharedProbes:
        asked.extend(config.training.head_init for config in configs)
        raise WorkerFailed("its process crashed")

    monkeypatch.setattr(module, "share_probes", share_probes)
    start_baselines(SPACE, stage.journal)
    progress = SearchProgress(Console(file=stage.screen), SPACE, 2, 1)
    assert search_probes(SPACE, {}, SHARE, stage.journal, progress) == {}
    assert asked[-2:] == ["probe", "random"], "the baselines come after the boundaries of the space"
    assert "each training computes its own linear probe" in stage.screen.getvalue()


class TestExamination:
    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Whether near twins were counted, call by call; of 40 images 12 have one."""
        asked: list[bool] = []

        def share_probes(configs: Any, images: Any, search: Any, share: Any, counting_twins: bool) -> SharedProbes:
            asked.append(counting_twins)
            return SharedProbes({}, NearTwins(40, 12) if counting_twins else None)

        monkeypatch.setattr(module, "share_probes", share_probes)
        return asked

    def probe(self, stage: Stage, space: SearchExperiment = SPACE) -> None:
        progress = SearchProgress(Console(file=stage.screen, width=200), space, 2, 1)
        search_probes(space, {}, SHARE, stage.journal, progress)

    def test_says_and_records_what_it_finds_and_only_once(self, stage: Stage, counted: list[bool]) -> None:
        self.probe(stage)
        note = "30 % of validation images have a near twin in training: scores are optimistic; see data.group_by"
        assert note in stage.screen.getvalue()
        found = stage.journal.history.data_findings
        assert found is not None
        assert (found.num_validated, found.num_with_twin, found.num_test, found.notes) == (40, 12, 20, (note,))
        self.probe(stage)
        assert (counted, stage.screen.getvalue().count(note)) == ([True, False], 1)

    def test_is_not_repeated_for_the_rows_of_a_comparison(self, stage: Stage, counted: list[bool]) -> None:
        stage.journal.append(search_started(SPACE, row="SMILE", column="all"))
        self.probe(stage)
        assert (counted, stage.journal.history.data_findings) == ([False], None)

    def test_names_files_that_are_in_train_and_test(self, stage: Stage, counted: list[bool], tmp_path: Path) -> None:
        write_photos(tmp_path / "photos", 40, train=6, test=2)  # the files of both classes have the same contents
        data = {"dataset": "imagefolder", "root": str(tmp_path / "photos"), "size_px": 32}
        space = space_of(data=data)
        keep_inventories(space, stage.journal.directory)
        self.probe(stage, space)
        found = stage.journal.history.data_findings
        assert found is not None
        assert (found.num_identical, found.num_test) == (4, 4)
        assert found.identical[0] == ("train/apple/0.png", "test/apple/0.png")
        said = (
            "4 of 4 test examples are in training, too: the test score is optimistic (test/apple/0.png = train/apple/0."
        )
        assert said in stage.screen.getvalue()
