"""Folds of the baselines: what a task trains, keeps and reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tuner.tiny import space_of
from trainables.data.images import LabelledImages
from trainables.data.loading import load_train
from trainables.errors import Diverged
from trainables.probe import PROBES, Probe
from trainables.results import FoldResult
from trainables.training.checkpoint import Checkpoints
from tuner.cluster import baselines
from tuner.cluster.baselines import BaselineFold, train_baseline, train_fold
from tuner.cluster.worker_reports import FoldDone, FoldFailed
from tuner.experiment.baselines import baseline_config
from tuner.record.directory import RunDirectory
from tuner.resources.share import Share

SHARE = Share(1, 0, 1)
SPACE = space_of(search__checkpoint_period_s=30)
CONFIG = baseline_config(SPACE, "fine_tuning")
IMAGES = LabelledImages.of(np.zeros((8, 8, 8, 3), dtype=np.uint8), np.arange(8) % 2, ("a", "b"))


class FakeTraining:
    """In place of a fold's training: `raises` is by fold, its checkpoint is written at once."""

    raises: dict[int, Exception] = {}  # noqa: RUF012 - replaced by each test
    predictions = None

    predictions = None

    def __init__(
        self,
        config: Any,
        examples: Any,
        number: int,
        fold: Any,
        device: Any,
        checkpoints: Checkpoints | None,
        best_by: Any = None,
    ) -> None:
        self.number = number
        if checkpoints is not None:
            checkpoints.save("me", {})
            checkpoints.wait()

    def result(self) -> FoldResult:
        if self.number in self.raises:
            raise self.raises[self.number]
        return FoldResult(self.number, 0.5, 0.0)


@pytest.fixture
def raises(monkeypatch: pytest.MonkeyPatch) -> dict[int, Exception]:
    """Fold → what its training raises. Tasks run in this process."""
    monkeypatch.setattr(baselines, "FoldTraining", FakeTraining)
    monkeypatch.setattr(FakeTraining, "raises", {})
    monkeypatch.setattr(baselines, "put_shared", lambda value: value)
    monkeypatch.setattr(baselines, "as_completed", lambda task, jobs, share, **_: (task(*job) for job in jobs))
    return FakeTraining.raises


def job(folder: Path, fold: int = 1, timeout_s: float | None = None) -> BaselineFold:
    return BaselineFold(CONFIG, fold, 2, folder / "fold.pt", None, timeout_s, folder / "hung.txt")


def reports(folder: Path, folds: tuple[int, ...] = (1, 2)) -> Iterator[FoldDone | FoldFailed]:
    directory = RunDirectory(folder)
    return train_baseline("fine_tuning", CONFIG, folds, IMAGES, {}, SPACE.search, SHARE, directory)


@pytest.mark.usefixtures("raises")
def test_every_fold_is_kept_while_it_trains_and_until_it_is_taken_in(tmp_path: Path) -> None:
    seen = []
    for report in reports(tmp_path):
        assert isinstance(report, FoldDone)
        seen += [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.pt")]
    assert seen == [f"checkpoints/fine_tuning/fold-{k}.pt" for k in (1, 2)]
    assert list(tmp_path.rglob("*.pt")) == []


@pytest.mark.usefixtures("raises")
def test_one_that_is_cut_off_leaves_its_checkpoint(tmp_path: Path) -> None:
    cut_off = reports(tmp_path, (2,))
    next(cut_off)
    del cut_off
    assert [path.name for path in tmp_path.rglob("*.pt")] == ["fold-2.pt"]


def test_a_training_that_diverges_is_a_report(tmp_path: Path, raises: dict[int, Exception]) -> None:
    raises[2] = Diverged(3, "the gradient")
    raises[1] = ValueError("no such layer")
    first, second = reports(tmp_path)
    assert first == FoldFailed(
        1, "fold 1: ValueError: no such layer", first.trace if isinstance(first, FoldFailed) else ""
    )
    assert second == FoldFailed(2, "fold 2 diverged: the gradient is not finite at step 3")


def test_a_full_gpu_is_for_another_process(tmp_path: Path, raises: dict[int, Exception]) -> None:
    raises[1] = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        train_fold(job(tmp_path), IMAGES, {}, SHARE)


@pytest.mark.usefixtures("raises")
def test_a_fold_that_hung_is_not_trained_again(tmp_path: Path) -> None:
    limited = job(tmp_path, timeout_s=600)
    assert isinstance(train_fold(limited, IMAGES, {}, SHARE), FoldDone)
    limited.stacks.write_text("Thread 0x7f: …")
    report = train_fold(limited, IMAGES, {}, SHARE)
    assert isinstance(report, FoldFailed)
    assert "took longer than search.fold_timeout_s = 600 s" in report.reason
    unlimited = replace(limited, timeout_s=None)
    assert isinstance(train_fold(unlimited, IMAGES, {}, SHARE), FoldDone), "the limit was lifted for a resume"


@pytest.mark.usefixtures("raises")
def test_probes_of_the_search_are_known_to_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[object] = []
    monkeypatch.setattr(baselines.PROBES, "add", known.append)
    probes = {"key": Probe(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 1.0)}
    train_fold(job(tmp_path), IMAGES, probes, SHARE)
    assert known == [probes]


def test_a_linear_probe_is_a_model_that_is_better_than_chance(tmp_path: Path) -> None:
    space = space_of(data__train_images=60)
    config = baseline_config(space, "linear_probe")
    PROBES.clear()
    probe = replace(job(tmp_path), config=config)
    report = train_fold(probe, load_train(config.data), {}, SHARE)
    assert isinstance(report, FoldDone)
    assert report.result.val_top1 > 0.2
    assert report.result.loss_terms == {}
