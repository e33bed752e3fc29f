"""The worker's side without Ray: whatever a trial does, the actor is as good as new for the next."""

from __future__ import annotations

import faulthandler
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._inductor import config as inductor_config

from tests.tuner.tiny import space_of
from trainables.data.folds import fold_at
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Collapsed, Diverged
from trainables.results import FoldResult
from trainables.training.checkpoint import Checkpoints
from trainables.training.kernels import CUBLAS_WORKSPACE
from tuner.cluster import trainable
from tuner.cluster.trainable import (
    ASSUMED_CONTEXT_BYTES,
    COMPILE_THREADS,
    FoldTrainable,
    WorkerSettings,
    memory_fraction,
    prepare_process,
)
from tuner.cluster.worker_reports import FoldDone, FoldFailed, RungScored
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory
from tuner.resources.gpu_facts import GpuFacts, NoGpu
from tuner.resources.share import Share
from tuner.scheduling.assignment import Assignment

SHARE = Share(1, 0, 1)


def assignment(
    number: int = 0, folds: tuple[int, ...] = (1, 2), rungs: tuple[int, ...] = (), **params: Any
) -> Assignment:
    config = space_of().trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5} | params)
    return Assignment(number, config, 2, folds, rungs)


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(RunDirectory(tmp_path), checkpoint_period_s=0, fold_timeout_s=None)


class FakeFold:
    """Scores alpha, more at rungs the later; `raises` says what the training of a fold raises instead of ending."""

    raises: dict[int, Any] = {}  # noqa: RUF012 - the test's
    taken_up_at = 0
    predictions = None

    def __init__(
        self,
        config: Any,
        images: Any,
        number: int,
        fold: Any,
        device: Any,
        checkpoints: Checkpoints | None,
        best_by: Any = None,
        kept: Any = None,
    ) -> None:
        assert len(fold.train) + len(fold.validation) == len(images)
        self.alpha, self.number, self.step = config.method.alpha, number, self.taken_up_at
        if checkpoints is not None:
            checkpoints.save("me", {})
            checkpoints.wait()

    def metrics_at(self, step: int) -> dict[str, float]:
        self.step = step
        return {"top1": self.alpha + step / 100, "log_loss": 0.5}

    def result(self) -> FoldResult:
        if self.number in self.raises:
            raise self.raises[self.number]
        return FoldResult(self.number, self.alpha, 0.0)


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Fold → what its training raises."""
    monkeypatch.setattr(trainable, "FoldTraining", FakeFold)
    monkeypatch.setattr(FakeFold, "raises", {})
    return FakeFold.raises


@pytest.fixture
def actor(behaviour: dict[int, Any], settings: WorkerSettings) -> FoldTrainable:
    pixels = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    images = LabelledImages.of(pixels, np.arange(6) % 2, ("a", "b"))
    key = source_key(assignment().config.data)
    actor = object.__new__(FoldTrainable)  # `Trainable.__init__` looks for Ray
    actor.setup({"assignment": assignment(), "settings": settings, "share": SHARE}, images={key: images}, probes={})
    return actor


def give(actor: FoldTrainable, to_do: Assignment, settings: WorkerSettings) -> None:
    assert actor.reset_config({"assignment": to_do, "settings": settings})


def kept(settings: WorkerSettings) -> list[str]:
    return sorted(str(path.relative_to(settings.directory.path)) for path in settings.directory.path.rglob("*.pt"))


class TestSteps:
    def test_a_step_is_a_fold(self, actor: FoldTrainable) -> None:
        first, second = actor.step(), actor.step()
        assert first == {"trial": 0, "report": FoldDone(FoldResult(1, 0.5, 0.0))}
        assert second == {"trial": 0, "report": FoldDone(FoldResult(2, 0.5, 0.0))}

    def test_a_trial_that_goes_on_starts_at_its_first_unfinished_fold(
        self, actor: FoldTrainable, settings: WorkerSettings
    ) -> None:
        give(actor, assignment(folds=(2,)), settings)
        assert actor.step()["report"].fold == 2

    def test_a_fold_of_a_later_deal_is_dealt_anew(
        self, actor: FoldTrainable, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dealt: list[list[int]] = []

        class Recorded(FakeFold):
            def __init__(self, config: Any, images: Any, number: int, fold: Any, *rest: Any) -> None:
                super().__init__(config, images, number, fold, *rest)
                dealt.append(fold.validation.tolist())

        monkeypatch.setattr(trainable, "FoldTraining", Recorded)
        give(actor, assignment(folds=(1, 2, 3, 4)), settings)
        assert [actor.step()["report"].fold for _ in range(4)] == [1, 2, 3, 4]
        (examples,) = actor.images_by_key.values()
        assert dealt == [fold_at(examples, number, 2, seed=0).validation.tolist() for number in (1, 2, 3, 4)]
        assert dealt[:2] != dealt[2:]

    def test_each_rung_is_a_step_of_the_first_fold(self, actor: FoldTrainable, settings: WorkerSettings) -> None:
        give(actor, assignment(3, rungs=(1, 5)), settings)
        said = [actor.step() for _ in range(4)]
        scores = {step: 0.5 + step / 100 for step in (1, 5)}
        rungs = [RungScored(1, step, score, {"top1": score, "log_loss": 0.5}) for step, score in scores.items()]
        assert said[:2] == [{"trial": 3, "report": rung} for rung in rungs]
        assert [step["report"].fold for step in said[2:]] == [1, 2]

    def test_rungs_that_its_checkpoint_has_passed_are_not_scored_again(
        self, actor: FoldTrainable, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FakeFold, "taken_up_at", 5)
        give(actor, assignment(rungs=(1, 5, 7)), settings)
        assert [actor.step()["report"].step for _ in range(2)] == [5, 7]  # at the fifth it may not have been heard
        assert actor.step()["report"].fold == 1

    def test_a_trial_that_was_stopped_at_a_rung_leaves_nothing(
        self, actor: FoldTrainable, settings: WorkerSettings
    ) -> None:
        give(actor, assignment(rungs=(1, 5)), settings)
        actor.step()
        give(actor, assignment(1, **{"method.alpha": 0.9}), settings)
        assert kept(settings) == []
        assert actor.step()["report"].result.val_top1 == 0.9

    def test_divergence_names_fold_and_step(self, actor: FoldTrainable, behaviour: dict[int, Any]) -> None:
        behaviour[2] = Diverged(7, "target_label")
        actor.step()
        assert actor.step()["report"] == FoldFailed(2, "fold 2 diverged: target_label is not finite at step 7")

    def test_a_collapsed_fold_fails_with_that_word(self, actor: FoldTrainable, behaviour: dict[int, Any]) -> None:
        behaviour[1] = Collapsed(33)
        reason = "fold 1 collapsed: the network predicts the same for all 33 examples"
        assert actor.step()["report"] == FoldFailed(1, reason)

    @pytest.mark.parametrize("error", [ValueError("bad\nsecond line"), MemoryError(), KeyError("x")])
    def test_whatever_a_trial_raises_the_next_is_unaffected(
        self, actor: FoldTrainable, behaviour: dict[int, Any], settings: WorkerSettings, error: Exception
    ) -> None:
        behaviour[1] = error
        ended = actor.step()["report"]
        assert ended.reason == f"fold 1: {one_line(error)}"
        assert "Traceback" in ended.trace
        behaviour.clear()
        give(actor, assignment(1, **{"method.alpha": 0.9}), settings)
        assert kept(settings) == []
        assert [actor.step()["report"].result.val_top1 for _ in range(2)] == [0.9, 0.9]

    @pytest.mark.parametrize(
        "error", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("assert", 710)]
    )
    def test_what_may_have_broken_the_process_ends_it(
        self, actor: FoldTrainable, behaviour: dict[int, Any], settings: WorkerSettings, error: Exception
    ) -> None:
        behaviour[1] = error
        with pytest.raises(type(error)):
            actor.step()
        actor.cleanup()
        assert kept(settings) == ["checkpoints/trial-0000/fold-1.pt"]  # for the process that tries again

    def test_a_library_that_finds_its_card_full_ends_it_too(
        self, actor: FoldTrainable, behaviour: dict[int, Any]
    ) -> None:
        behaviour[1] = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
            actor.step()


@pytest.mark.parametrize(
    ("share", "kept_to"),
    [
        (Share(1, 0.25, 4), 0.95 * 0.25),
        (Share(1, 0.25, 4, context=0.005), 0.95 * 0.25),
        (Share(1, 0.0625, 16, context=0.01), 0.0525),  # sixteen contexts are more than the headroom
        (Share(1, 1, 1, context=0.01), None),
        (Share(1, 0, 1), None),
    ],
)
def test_a_process_is_kept_to_its_share_of_a_card(
    monkeypatch: pytest.MonkeyPatch, share: Share, kept_to: float | None
) -> None:
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 1 << 50))  # on which no context is worth a word
    prepare_process(share)
    assert limits == ([] if kept_to is None else pytest.approx([kept_to]))


def test_a_process_with_a_share_of_a_gpu_does_not_train_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = GpuFacts(node="a", torch="2.9", cuda="13.0", driver="535.104", failure="RuntimeError: driver too old")
    monkeypatch.setattr(trainable, "inspect_gpu", lambda: found)
    with pytest.raises(
        NoGpu, match=r"takes NVIDIA driver 580 or newer.* got the GPU \(driver 535\.104\) on a: Runtime"
    ):
        prepare_process(Share(1, 0.25, 4))
    prepare_process(Share(1, 0, 4))


def test_cublas_can_be_deterministic_in_every_process_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    (variable,) = CUBLAS_WORKSPACE
    monkeypatch.setenv(variable, "")
    monkeypatch.delenv(variable)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    prepare_process(Share(1, 1, 1))
    assert os.environ[variable] == CUBLAS_WORKSPACE[variable]


def test_networks_in_a_reference_cycle_do_not_outlive_their_fold() -> None:
    """As those of torchvision are, whose graph and module refer to each other."""

    class Knot:
        def __init__(self) -> None:
            self.itself = self

    actor = FoldTrainable.__new__(FoldTrainable)
    knot: Any = Knot()
    alive = weakref.ref(knot)
    actor.training = knot
    del knot
    gc.disable()
    try:
        actor._discard()
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("gib", [24, 16, 80])
@pytest.mark.parametrize("trials", [2, 4, 8])
def test_fixed_shares_and_their_contexts_fit_on_a_card(gib: int, trials: int) -> None:
    fraction = memory_fraction(Share(1, 1 / trials, trials), gib << 30)
    context = ASSUMED_CONTEXT_BYTES / (gib << 30)
    assert trials * (fraction + context) <= 1 + 1e-9
    assert fraction >= 0.5 / trials


@pytest.mark.parametrize("trials", [2, 4, 8])
def test_shares_fit_beside_what_others_hold(trials: int) -> None:
    share = Share(1, 1 / trials, trials, context=0.01, others=0.25)
    assert trials * (memory_fraction(share, 24 << 30) + 0.01) <= 0.75 + 1e-9


@pytest.mark.parametrize(("cpus", "threads"), [(3, 3), (1, 1), (0.5, 1)])
@pytest.mark.parametrize("said", [None, "7"])
def test_a_process_takes_as_many_threads_as_it_has_cores(
    monkeypatch: pytest.MonkeyPatch, cpus: float, threads: int, said: str | None
) -> None:
    """To train with and, unless it is told otherwise, to compile with."""
    variable, taken = COMPILE_THREADS, []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setenv(variable, said or "")
    if said is None:
        monkeypatch.delenv(variable)
    with inductor_config.patch(compile_threads=32):  # as it was when inductor was imported
        prepare_process(Share(cpus, 0, 1))
        assert inductor_config.compile_threads == int(said or threads)
    assert taken == [threads]
    assert os.environ[variable] == (said or str(threads))


class TestCheckpoints:
    def test_stay_until_the_folds_result_has_been_taken_in(
        self, actor: FoldTrainable, settings: WorkerSettings
    ) -> None:
        actor.step()
        assert kept(settings) == ["checkpoints/trial-0000/fold-1.pt"]
        actor.step()
        assert kept(settings) == ["checkpoints/trial-0000/fold-2.pt"]
        actor.cleanup()
        assert kept(settings) == []

    def test_are_left_out_on_demand(self, actor: FoldTrainable, tmp_path: Path) -> None:
        give(actor, assignment(), WorkerSettings(RunDirectory(tmp_path), None, None))
        actor.step()
        assert list(tmp_path.iterdir()) == []


class TestTimeLimit:
    def test_is_of_the_fold_with_all_its_rungs(
        self, actor: FoldTrainable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now, limits = 0.0, []
        monkeypatch.setattr(trainable.time, "monotonic", lambda: now)

        def metrics_at(self: FakeFold, step: int) -> dict[str, float]:
            nonlocal now
            now += 4
            return {"top1": 0.0}

        monkeypatch.setattr(FakeFold, "metrics_at", metrics_at)
        monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda limit_s, exit, file: limits.append(limit_s))
        give(actor, assignment(rungs=(1, 5)), WorkerSettings(RunDirectory(tmp_path), None, 10))
        for _ in range(4):
            actor.step()
        assert limits == [10, 6, 2, 10]

    def test_there_is_none_by_default(self, actor: FoldTrainable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(faulthandler, "dump_traceback_later")
        actor.step()
