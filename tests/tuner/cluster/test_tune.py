"""The worker's side without Ray: whatever a trial does, the actor is as good as new for the next."""

from __future__ import annotations

import faulthandler
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray import cloudpickle
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from ray.tune.error import TuneError
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper

from tests.tuner.tiny import events_in, space_of
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.results import FoldResult
from trainables.training.checkpoint import Checkpoints
from tuner.cluster import tune as trials
from tuner.cluster.trainable import FoldTrainable, WorkerSettings
from tuner.cluster.tune import SchedulerCallback, SchedulerSearcher, SchedulerStopper
from tuner.experiment.settings import ResourceSettings
from tuner.messages.wording import one_line
from tuner.record.journal import Journal
from tuner.resources.share import Capacity, Share, share_of
from tuner.scheduling.scheduler import Assignment, TrialScheduler

SHARE = Share(1, 0, 1)


def assignment(
    number: int = 0, folds: tuple[int, ...] = (1, 2), rungs: tuple[int, ...] = (), **params: Any
) -> Assignment:
    config = space_of().trial_config({"gamma_fe": 0.02, "alpha": 0.5} | params)
    return Assignment(number, config, 2, folds, rungs)


@pytest.fixture
def safety(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(tmp_path, checkpoint_period_s=0, fold_timeout_s=None)


class FakeFold:
    """Scores alpha, more at rungs the later; `raises` says what the training of a fold raises instead of ending."""

    raises: dict[int, Any] = {}  # noqa: RUF012 - the test's
    taken_up_at = 0

    def __init__(
        self, config: Any, images: Any, number: int, fold: Any, device: Any, checkpoints: Checkpoints | None
    ) -> None:
        assert len(fold.train) + len(fold.validation) == len(images)
        self.alpha, self.number, self.step = config.method.alpha, number, self.taken_up_at
        if checkpoints is not None:
            checkpoints.save("me", {})

    def score_at(self, step: int) -> float:
        self.step = step
        return float(self.alpha + step / 100)

    def result(self) -> FoldResult:
        if self.number in self.raises:
            raise self.raises[self.number]
        return FoldResult(self.number, self.alpha, 0.0)


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Fold → what its training raises."""
    monkeypatch.setattr(trials, "FoldTraining", FakeFold)
    monkeypatch.setattr(FakeFold, "raises", {})
    return FakeFold.raises


@pytest.fixture
def actor(behaviour: dict[int, Any], safety: WorkerSettings) -> FoldTrainable:
    pixels = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    images = LabelledImages.of(pixels, np.arange(6) % 2, ("a", "b"))
    key = source_key(assignment().config.data)
    trainable = object.__new__(FoldTrainable)  # `Trainable.__init__` looks for Ray
    trainable.setup({"assignment": assignment(), "safety": safety, "share": SHARE}, images={key: images})
    return trainable


def give(actor: FoldTrainable, to_do: Assignment, safety: WorkerSettings) -> None:
    assert actor.reset_config({"assignment": to_do, "safety": safety})


def kept(safety: WorkerSettings) -> list[str]:
    return sorted(str(path.relative_to(safety.experiment)) for path in safety.experiment.rglob("*.pt"))


class TestSteps:
    def test_a_step_is_a_fold(self, actor: FoldTrainable) -> None:
        first, second = actor.step(), actor.step()
        assert (first["trial"], first["result"]["fold"]) == (0, 1)
        assert (second["trial"], second["result"]["fold"]) == (0, 2)
        assert first["result"]["val_top1"] == 0.5

    def test_a_trial_that_goes_on_starts_at_its_first_unfinished_fold(
        self, actor: FoldTrainable, safety: WorkerSettings
    ) -> None:
        give(actor, assignment(folds=(2,)), safety)
        assert actor.step()["result"]["fold"] == 2

    def test_each_rung_is_a_step_of_the_first_fold(self, actor: FoldTrainable, safety: WorkerSettings) -> None:
        give(actor, assignment(3, rungs=(1, 5)), safety)
        said = [actor.step() for _ in range(4)]
        rungs = [{"step": step, "val_top1": 0.5 + step / 100} for step in (1, 5)]
        assert said[:2] == [{"trial": 3, "fold": 1, "rung": rung} for rung in rungs]
        assert [result["result"]["fold"] for result in said[2:]] == [1, 2]

    def test_rungs_that_its_checkpoint_has_passed_are_not_scored_again(
        self, actor: FoldTrainable, safety: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FakeFold, "taken_up_at", 5)
        give(actor, assignment(rungs=(1, 5, 7)), safety)
        assert [actor.step()["rung"]["step"] for _ in range(2)] == [5, 7]  # at the fifth it may not have been heard
        assert actor.step()["result"]["fold"] == 1

    def test_a_trial_that_was_stopped_at_a_rung_leaves_nothing(
        self, actor: FoldTrainable, safety: WorkerSettings
    ) -> None:
        give(actor, assignment(rungs=(1, 5)), safety)
        actor.step()
        give(actor, assignment(1, alpha=0.9), safety)
        assert kept(safety) == []
        assert actor.step()["result"]["val_top1"] == 0.9

    def test_divergence_names_fold_and_step(self, actor: FoldTrainable, behaviour: dict[int, Any]) -> None:
        behaviour[2] = Diverged(7, "target_label")
        actor.step()
        assert actor.step() == {
            "trial": 0,
            "fold": 2,
            "failed": "fold 2 diverged: target_label is not finite at step 7",
        }

    @pytest.mark.parametrize("error", [ValueError("bad\nsecond line"), MemoryError(), KeyError("x")])
    def test_whatever_a_trial_raises_the_next_is_unaffected(
        self, actor: FoldTrainable, behaviour: dict[int, Any], safety: WorkerSettings, error: Exception
    ) -> None:
        behaviour[1] = error
        ended = actor.step()
        assert ended["failed"] == f"fold 1: {one_line(error)}"
        assert "Traceback" in ended["trace"]
        behaviour.clear()
        give(actor, assignment(1, alpha=0.9), safety)
        assert kept(safety) == []
        assert [actor.step()["result"]["val_top1"] for _ in range(2)] == [0.9, 0.9]

    @pytest.mark.parametrize(
        "error", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("assert", 710)]
    )
    def test_what_may_have_broken_the_process_ends_it(
        self, actor: FoldTrainable, behaviour: dict[int, Any], safety: WorkerSettings, error: Exception
    ) -> None:
        behaviour[1] = error
        with pytest.raises(type(error)):
            actor.step()
        actor.cleanup()
        assert kept(safety) == ["checkpoints/trial-0000/fold-1.pt"]  # for the process that tries again

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
    trials.prepare_process(share)
    assert limits == ([] if kept_to is None else pytest.approx([kept_to]))


@pytest.mark.parametrize(("cpus", "threads"), [(3, 3), (1, 1), (0.5, 1)])
@pytest.mark.parametrize("said", [None, "7"])
def test_a_process_takes_as_many_threads_as_it_has_cores(
    monkeypatch: pytest.MonkeyPatch, cpus: float, threads: int, said: str | None
) -> None:
    """To train with and, unless it is told otherwise, to compile with."""
    variable, taken = "TORCHINDUCTOR_COMPILE_THREADS", []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setenv(variable, said or "")
    if said is None:
        monkeypatch.delenv(variable)
    trials.prepare_process(Share(cpus, 0, 1))
    assert taken == [threads]
    assert os.environ[variable] == (said or str(threads))


class TestCheckpoints:
    def test_stay_until_the_folds_result_has_been_taken_in(self, actor: FoldTrainable, safety: WorkerSettings) -> None:
        actor.step()
        assert kept(safety) == ["checkpoints/trial-0000/fold-1.pt"]
        actor.step()
        assert kept(safety) == ["checkpoints/trial-0000/fold-2.pt"]
        actor.cleanup()
        assert kept(safety) == []

    def test_are_left_out_on_demand(self, actor: FoldTrainable, tmp_path: Path) -> None:
        give(actor, assignment(), WorkerSettings(tmp_path, None, None))
        actor.step()
        assert list(tmp_path.iterdir()) == []


class TestTimeLimit:
    def test_is_of_the_fold_with_all_its_rungs(
        self, actor: FoldTrainable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now, limits = 0.0, []
        monkeypatch.setattr(trials.time, "monotonic", lambda: now)

        def score_at(self: FakeFold, step: int) -> float:
            nonlocal now
            now += 4
            return 0.0

        monkeypatch.setattr(FakeFold, "score_at", score_at)
        monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda limit_s, exit, file: limits.append(limit_s))
        give(actor, assignment(rungs=(1, 5)), WorkerSettings(tmp_path, None, 10))
        for _ in range(4):
            actor.step()
        assert limits == [10, 6, 2, 10]

    def test_there_is_none_by_default(self, actor: FoldTrainable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(faulthandler, "dump_traceback_later")
        actor.step()


class FakeTrial:
    """What Ray Tune hands to a callback."""

    def __init__(self, config: Any, folder: Path, error: Exception | None = None) -> None:
        self.config = config
        self.pickled_error_file = str(folder / "error.pkl") if isinstance(error, RayActorError) else None
        self.error_file = None if error is None else str(folder / "error.txt")
        (folder / "error.pkl").write_bytes(cloudpickle.dumps(error))
        (folder / "error.txt").write_text(f"Failure # 1 (occurred at noon)\n{error}\n")


class TestTowardsTheConductor:
    @pytest.fixture
    def scheduler(self, tmp_path: Path) -> TrialScheduler:
        return TrialScheduler(space_of(search__trials=1, search__racing={"rule": "none"}), Journal(tmp_path))

    @pytest.fixture
    def safety(self, tmp_path: Path) -> WorkerSettings:
        return WorkerSettings(tmp_path, checkpoint_period_s=0, fold_timeout_s=600)

    @pytest.fixture
    def searcher(self, scheduler: TrialScheduler, safety: WorkerSettings) -> SchedulerSearcher:
        return SchedulerSearcher(scheduler, safety, SHARE)

    @pytest.fixture
    def checkpoint(self, safety: WorkerSettings) -> Path:
        checkpoint = safety.checkpoint(0, 1)
        assert checkpoint is not None
        checkpoint.save("me", {})
        return checkpoint.path

    def test_nothing_to_do_for_now_is_not_the_end(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, safety: WorkerSettings
    ) -> None:
        config = searcher.suggest("x")
        assert isinstance(config, dict)
        assert (config["safety"], config["share"]) == (safety, SHARE)
        assert searcher.suggest("y") is None
        scheduler.trial_failed(0, 1, "diverged")
        assert searcher.suggest("y") == Searcher.FINISHED

    def test_results_failures_and_deaths_arrive(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, safety: WorkerSettings, tmp_path: Path
    ) -> None:
        stops, callback = SchedulerStopper(scheduler, safety), SchedulerCallback(scheduler, safety)
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, ActorDiedError())
        assert not stops("x", {"trial": 0, "result": FoldResult(1, 0.5, 0.0).as_dict()})
        assert scheduler.journal.history.trials[0].fold_scores == [0.5]
        callback.on_trial_error(1, [], trial)
        again = searcher.suggest("y")
        assert isinstance(again, dict)
        assert (again["assignment"].number, again["assignment"].folds) == (0, (2,))
        assert stops("y", {"trial": 0, "fold": 2, "failed": "fold 2 diverged"})
        assert scheduler.journal.history.trials[0].state == "failed"
        callback.on_trial_error(1, [], trial)  # its actor's end, which is nobody's loss any more
        assert scheduler.done

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ActorDiedError(), "its process crashed or was killed, as the kernel does where memory runs out ("),
            (OutOfMemoryError("killed: the node running low on memory"), "the node ran out of memory, and Ray ended"),
            (None, "no reason known"),
        ],
    )
    def test_what_a_worker_dies_of_is_kept(
        self,
        scheduler: TrialScheduler,
        searcher: SchedulerSearcher,
        safety: WorkerSettings,
        tmp_path: Path,
        error: Exception | None,
        reason: str,
    ) -> None:
        callback = SchedulerCallback(scheduler, safety)
        for _ in range(3):
            trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, error)
            callback.on_trial_error(1, [], trial)
        assert scheduler.journal.history.trials[0].reason.startswith(f"its worker died 3 times: {reason}")

    def test_a_share_of_a_card_that_was_too_little_grows(self, safety: WorkerSettings, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=9), Journal(tmp_path))
        auto = share_of([Capacity(4, 1)], ResourceSettings(gpus="auto"), "auto").dividing_cards_by(0.1)
        searcher, callback = SchedulerSearcher(scheduler, safety, auto), SchedulerCallback(scheduler, safety)
        configs = [searcher.suggest(name) for name in "abcd"]
        assert [config["share"].gpus for config in configs] == [0.25] * 4  # type: ignore[index, call-overload]
        full: Any = FakeTrial(configs[0], tmp_path, torch.OutOfMemoryError("CUDA out of memory. Tried to ..."))
        callback.on_trial_error(1, [], full)
        assert [e["gpus"] for e in events_in(scheduler.journal.path) if e["event"] == "share_grown"] == [0.5]
        assert searcher.suggest("e") is None  # three are at work, and two fit
        for number in (1, 2):
            scheduler.trial_failed(number, 1, "diverged")
        again = searcher.suggest("f")
        assert isinstance(again, dict)
        assert (again["assignment"].number, again["share"].gpus, again["share"].concurrency) == (0, 0.5, 2)
        assert trials._resources_of(again).required_resources == {"CPU": 1, "GPU": 0.5}

    def test_a_share_that_was_asked_for_does_not(
        self, scheduler: TrialScheduler, safety: WorkerSettings, searcher: SchedulerSearcher, tmp_path: Path
    ) -> None:
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, torch.OutOfMemoryError("CUDA out of memory."))
        for _ in range(3):
            SchedulerCallback(scheduler, safety).on_trial_error(1, [], trial)
            searcher.suggest("y")
        reason = "its worker died 3 times: RayError: CUDA out of memory."
        assert (scheduler.journal.history.gpus, scheduler.journal.history.trials[0].reason) == (None, reason)

    def test_a_fold_that_hung_is_not_repeated(
        self,
        scheduler: TrialScheduler,
        searcher: SchedulerSearcher,
        safety: WorkerSettings,
        tmp_path: Path,
        checkpoint: Path,
    ) -> None:
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, ActorDiedError())
        safety.stacks(0, 1).parent.mkdir()
        safety.stacks(0, 1).write_text("Timeout (0:10:00)!")
        SchedulerCallback(scheduler, safety).on_trial_error(1, [], trial)
        ended = scheduler.journal.history.trials[0]
        where = "logs/trial-0000-fold-1-hung.txt"
        assert ended.reason == f"fold 1 took longer than search.fold_timeout_s = 600 s; where it stood: {where}"
        assert ended.state == "failed"
        assert not checkpoint.exists()

    def test_one_that_was_killed_under_its_limit_did_not_hang(
        self,
        scheduler: TrialScheduler,
        searcher: SchedulerSearcher,
        safety: WorkerSettings,
        tmp_path: Path,
        checkpoint: Path,
    ) -> None:
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, ActorDiedError())
        safety.stacks(0, 1).parent.mkdir()
        safety.stacks(0, 1).touch()
        SchedulerCallback(scheduler, safety).on_trial_error(1, [], trial)
        assert scheduler.journal.history.trials[0].state == "running"
        assert checkpoint.exists()

    def test_a_trials_end_takes_its_checkpoints_along(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, safety: WorkerSettings, checkpoint: Path
    ) -> None:
        searcher.suggest("x")
        stops = SchedulerStopper(scheduler, safety)
        stops("x", {"trial": 0, "result": FoldResult(1, 0.5, 0.0).as_dict()})
        assert checkpoint.exists()
        stops("x", {"trial": 0, "result": FoldResult(2, 0.5, 0.0).as_dict()})
        assert not checkpoint.exists()

    def test_a_rung_may_stop_a_trial(self, safety: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        record = SimpleNamespace(state="running")
        asked: list[Any] = []

        def rung_reached(number: int, fold: int, **rung: Any) -> bool:
            asked.append((number, fold, rung))
            return len(asked) == 1

        history = SimpleNamespace(trials={4: record})
        scheduler: Any = SimpleNamespace(rung_reached=rung_reached, journal=SimpleNamespace(history=history))
        stops = SchedulerStopper(scheduler, safety)
        rung = {"step": 3, "val_top1": 0.5}
        assert [stops("x", {"trial": 4, "fold": 1, "rung": rung}) for _ in range(2)] == [False, True]
        assert asked == [(4, 1, rung)] * 2

    def test_ray_tunes_snapshots_hold_nothing_of_it(self, scheduler: TrialScheduler, safety: WorkerSettings) -> None:
        assert type(pickle.loads(pickle.dumps(SchedulerSearcher(scheduler, safety, SHARE)))) is Searcher
        assert type(pickle.loads(pickle.dumps(SchedulerStopper(scheduler, safety)))) is NoopStopper
        assert b"TrialScheduler" not in pickle.dumps(SchedulerCallback(scheduler, safety))


class FakeTuner:
    """In place of Ray Tune: the whole loop raises."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def fit(self) -> None:
        try:
            raise OSError(28, "No space left on device", "experiment_state.json")
        except OSError:
            raise TuneError("Traceback ...")  # noqa: B904 - as Ray Tune does it


class TestRayTunesOwnFiles:
    @pytest.fixture(autouse=True)
    def no_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trials.tune, "Tuner", FakeTuner)
        monkeypatch.setattr(trials.tune, "with_parameters", lambda trainable, **_: trainable)

    def test_that_cannot_be_written_are_no_loss_after_the_last_trial(self, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=1), Journal(tmp_path))
        scheduler.next_assignment()
        scheduler.trial_failed(0, 1, "diverged")
        trials.run_trials(scheduler, {}, SHARE, tmp_path / "ray")

    def test_end_the_search_before(self, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=1), Journal(tmp_path))
        with pytest.raises(OSError, match="experiment_state"):
            trials.run_trials(scheduler, {}, SHARE, tmp_path / "ray")

    def test_what_a_crash_left_of_ended_trials_is_removed(self, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=2), Journal(tmp_path))
        safety = WorkerSettings(tmp_path, 0, None)
        for number in range(2):
            scheduler.next_assignment()
            checkpoint = safety.checkpoint(number, 1)
            assert checkpoint is not None
            checkpoint.save("me", {})
        scheduler.trial_failed(0, 1, "diverged")
        with pytest.raises(OSError, match="No space"):
            trials.run_trials(scheduler, {}, SHARE, tmp_path / "ray")
        assert kept(safety) == ["checkpoints/trial-0001/fold-1.pt"]
