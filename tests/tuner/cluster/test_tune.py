"""Ray Tune's hooks without Ray: what workers report and how they die reaches the scheduler."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import cloudpickle
from ray.air.execution._internal import RayActorManager
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from ray.tune.error import TuneError
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper

from tests.tuner.cluster.test_trainable import SHARE, kept
from tests.tuner.tiny import events_in, search_journal, space_of
from trainables.results import FoldResult
from tuner.cluster import tune
from tuner.cluster.capacity import ClusterNodes, LiveCapacity
from tuner.cluster.connection import TUNE_ENVIRONMENT
from tuner.cluster.tasks import death_reason
from tuner.cluster.trainable import WorkerSettings
from tuner.cluster.tune import (
    SchedulerCallback,
    SchedulerSearcher,
    SchedulerStopper,
    each_error_is_its_trials,
    run_trials,
)
from tuner.cluster.worker_reports import FoldDone, FoldFailed, RungScored
from tuner.experiment.settings import ResourceSettings
from tuner.record.directory import RunDirectory
from tuner.resources.node_losses import MAX_LOSSES_PER_HOUR
from tuner.resources.share import Capacity, share_of
from tuner.scheduling.scheduler import Decision, TrialScheduler

NODES = ClusterNodes((Capacity(1, 0),))
CAPACITY = LiveCapacity(SHARE, list_nodes=lambda: NODES)


def done(fold: int) -> dict[str, Any]:
    """What a worker reports at the end of a fold."""
    return {"trial": 0, "report": FoldDone(FoldResult(fold, 0.5, 0.0))}


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
        return TrialScheduler(space_of(search__trials=1, search__racing={"rule": "none"}), search_journal(tmp_path))

    @pytest.fixture
    def settings(self, tmp_path: Path) -> WorkerSettings:
        return WorkerSettings(RunDirectory(tmp_path), checkpoint_period_s=0, fold_timeout_s=600)

    @pytest.fixture
    def searcher(self, scheduler: TrialScheduler, settings: WorkerSettings) -> SchedulerSearcher:
        return SchedulerSearcher(scheduler, settings, LiveCapacity(SHARE, list_nodes=lambda: NODES))

    @pytest.fixture
    def checkpoint(self, settings: WorkerSettings) -> Path:
        checkpoint = settings.checkpoint(0, 1)
        assert checkpoint is not None
        checkpoint.save("me", {})
        checkpoint.wait()
        return checkpoint.path

    def test_nothing_to_do_for_now_is_not_the_end(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, settings: WorkerSettings
    ) -> None:
        config = searcher.suggest("x")
        assert isinstance(config, dict)
        assert (config["settings"], config["share"]) == (settings, SHARE)
        assert searcher.suggest("y") is None
        scheduler.trial_failed(0, 1, "diverged")
        assert searcher.suggest("y") == Searcher.FINISHED

    def test_results_failures_and_deaths_arrive(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, settings: WorkerSettings, tmp_path: Path
    ) -> None:
        stops, callback = SchedulerStopper(scheduler, settings), SchedulerCallback(scheduler, settings, CAPACITY)
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, ActorDiedError())
        assert not stops("x", done(1))
        assert scheduler.journal.history.trials[0].fold_scores == [0.5]
        callback.on_trial_error(1, [], trial)
        again = searcher.suggest("y")
        assert isinstance(again, dict)
        assert (again["assignment"].number, again["assignment"].folds) == (0, (2,))
        assert stops("y", {"trial": 0, "report": FoldFailed(2, "fold 2 diverged")})
        assert scheduler.journal.history.trials[0].state == "failed"
        callback.on_trial_error(1, [], trial)  # its actor's end, which is nobody's loss any more
        assert scheduler.done

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ActorDiedError(), "its process crashed or was killed, as by the kernel when memory runs out ("),
            (OutOfMemoryError("killed: the node running low on memory"), "the node ran out of memory, and Ray ended"),
            (None, "unknown reason"),
        ],
    )
    def test_what_a_worker_dies_of_is_kept(
        self,
        scheduler: TrialScheduler,
        searcher: SchedulerSearcher,
        settings: WorkerSettings,
        tmp_path: Path,
        error: Exception | None,
        reason: str,
    ) -> None:
        callback = SchedulerCallback(scheduler, settings, CAPACITY)
        for _ in range(3):
            trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, error)
            callback.on_trial_error(1, [], trial)
        assert scheduler.journal.history.trials[0].reason.startswith(f"its worker died 3 times: {reason}")

    def test_the_loss_of_its_node_is_no_fault_of_a_trial(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, settings: WorkerSettings, tmp_path: Path
    ) -> None:
        callback = SchedulerCallback(scheduler, settings, CAPACITY)
        for _ in range(MAX_LOSSES_PER_HOUR):
            trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, RayActorError(preempted=True))
            callback.on_trial_error(1, [], trial)
        assert scheduler.journal.history.trials[0].state == "running"
        trial = FakeTrial(searcher.suggest("x"), tmp_path, RayActorError(preempted=True))
        callback.on_trial_error(1, [], trial)
        reason = "its nodes were lost more than 10 times an hour: its node was lost"
        assert scheduler.journal.history.trials[0].reason == reason

    def test_a_share_of_a_card_that_was_too_little_grows(self, settings: WorkerSettings, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=9), search_journal(tmp_path))
        auto = share_of([Capacity(4, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.1)
        capacity = LiveCapacity(auto, list_nodes=lambda: ClusterNodes((Capacity(4, 1),)))
        searcher, callback = (
            SchedulerSearcher(scheduler, settings, capacity),
            SchedulerCallback(scheduler, settings, capacity),
        )
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
        assert tune._resources_of(again).required_resources == {"CPU": 1, "GPU": 0.5}

    def test_a_share_that_was_asked_for_does_not(
        self, scheduler: TrialScheduler, settings: WorkerSettings, searcher: SchedulerSearcher, tmp_path: Path
    ) -> None:
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, torch.OutOfMemoryError("CUDA out of memory."))
        for _ in range(3):
            SchedulerCallback(scheduler, settings, CAPACITY).on_trial_error(1, [], trial)
            searcher.suggest("y")
        reason = "its worker died 3 times: RayError: CUDA out of memory."
        assert (scheduler.journal.history.gpus, scheduler.journal.history.trials[0].reason) == (None, reason)

    def test_a_fold_that_hung_is_not_repeated(
        self,
        scheduler: TrialScheduler,
        searcher: SchedulerSearcher,
        settings: WorkerSettings,
        tmp_path: Path,
        checkpoint: Path,
    ) -> None:
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, ActorDiedError())
        settings.hung_stacks(0, 1).parent.mkdir()
        settings.hung_stacks(0, 1).write_text("Timeout (0:10:00)!")
        SchedulerCallback(scheduler, settings, CAPACITY).on_trial_error(1, [], trial)
        ended = scheduler.journal.history.trials[0]
        where = "logs/trial-0000-fold-1-hung.txt"
        assert ended.reason == f"fold 1 took longer than search.fold_timeout_s = 600 s; its stack traces are in {where}"
        assert ended.state == "failed"
        assert not checkpoint.exists()

    def test_one_that_was_killed_under_its_limit_did_not_hang(
        self,
        scheduler: TrialScheduler,
        searcher: SchedulerSearcher,
        settings: WorkerSettings,
        tmp_path: Path,
        checkpoint: Path,
    ) -> None:
        trial: Any = FakeTrial(searcher.suggest("x"), tmp_path, ActorDiedError())
        settings.hung_stacks(0, 1).parent.mkdir()
        settings.hung_stacks(0, 1).touch()
        SchedulerCallback(scheduler, settings, CAPACITY).on_trial_error(1, [], trial)
        assert scheduler.journal.history.trials[0].state == "running"
        assert checkpoint.exists()

    def test_a_trials_end_takes_its_checkpoints_along(
        self, scheduler: TrialScheduler, searcher: SchedulerSearcher, settings: WorkerSettings, checkpoint: Path
    ) -> None:
        searcher.suggest("x")
        stops = SchedulerStopper(scheduler, settings)
        stops("x", done(1))
        assert checkpoint.exists()
        stops("x", done(2))
        assert not checkpoint.exists()

    def test_a_rung_may_stop_a_trial(self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        record = SimpleNamespace(state="running")
        asked: list[Any] = []

        def rung_reached(*arguments: Any) -> Decision:
            asked.append(arguments)
            return Decision.CONTINUE if len(asked) == 1 else Decision.STOP

        history = SimpleNamespace(trials={4: record})
        scheduler: Any = SimpleNamespace(
            rung_reached=rung_reached, journal=SimpleNamespace(history=history, directory=settings.directory)
        )
        stops = SchedulerStopper(scheduler, settings)
        report = {"trial": 4, "report": RungScored(1, 3, 0.5, {"log_loss": 0.75})}
        assert [stops("x", report) for _ in range(2)] == [False, True]
        assert asked == [(4, 1, 3, 0.5, {"log_loss": 0.75})] * 2

    def test_ray_tunes_snapshots_hold_nothing_of_it(self, scheduler: TrialScheduler, settings: WorkerSettings) -> None:
        assert type(pickle.loads(pickle.dumps(SchedulerSearcher(scheduler, settings, LiveCapacity(SHARE))))) is Searcher
        assert type(pickle.loads(pickle.dumps(SchedulerStopper(scheduler, settings)))) is NoopStopper
        assert b"TrialScheduler" not in pickle.dumps(SchedulerCallback(scheduler, settings, CAPACITY))


def test_tune_leaves_a_trial_whose_node_was_preempted_to_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start it again itself, with folds that are finished."""
    for name, value in TUNE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    trial: Any = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=0), max_failures=0)
    tune.Trial._handle_ray_actor_error(trial, RayActorError(preempted=True))
    assert not tune.Trial.should_recover(trial)


def test_of_a_trial_that_has_ended_tune_keeps_nothing_large() -> None:
    config = {"assignment": "folds"}
    metadata = SimpleNamespace(
        last_result={**done(1), "config": config, "done": True}, metric_analysis={"x": 1}, metric_n_steps={"x": 1}
    )
    trial: Any = SimpleNamespace(run_metadata=metadata, config=config, evaluated_params=dict(config))
    SchedulerCallback(None, None, CAPACITY).on_trial_complete(1, [], trial)  # type: ignore[arg-type]  # which it does not need
    assert metadata.last_result == {"trial": 0, "done": True}
    assert (config, trial.evaluated_params, metadata.metric_analysis, metadata.metric_n_steps) == ({}, {}, {}, {})


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
        monkeypatch.setattr(tune.tune, "Tuner", FakeTuner)
        monkeypatch.setattr(tune.tune, "with_parameters", lambda trainable, **_: trainable)

    def test_that_cannot_be_written_are_no_loss_after_the_last_trial(self, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=1), search_journal(tmp_path))
        scheduler.next_assignment()
        scheduler.trial_failed(0, 1, "diverged")
        run_trials(scheduler, {}, SHARE)

    def test_end_the_search_before(self, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=1), search_journal(tmp_path))
        with pytest.raises(OSError, match="experiment_state"):
            run_trials(scheduler, {}, SHARE)

    def test_what_a_crash_left_of_ended_trials_is_removed(self, tmp_path: Path) -> None:
        scheduler = TrialScheduler(space_of(search__trials=2), search_journal(tmp_path))
        settings = WorkerSettings(RunDirectory(tmp_path), 0, None)
        for number in range(2):
            scheduler.next_assignment()
            checkpoint = settings.checkpoint(number, 1)
            assert checkpoint is not None
            checkpoint.save("me", {})
            checkpoint.wait()
        scheduler.trial_failed(0, 1, "diverged")
        with pytest.raises(OSError, match="No space"):
            run_trials(scheduler, {}, SHARE)
        assert kept(settings) == ["checkpoints/trial-0001/fold-1.pt"]


def test_any_error_of_rays_is_the_end_of_one_trials_actor() -> None:
    """As of an actor that Ray's memory monitor has killed, which would end the search."""
    handed: list[Exception] = []
    actor = SimpleNamespace(actor_id="0a", _on_error=lambda _, error: handed.append(error))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    killed = OutOfMemoryError("1 worker was killed due to the node running low on memory")
    with each_error_is_its_trials():
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=killed)
    (error,) = handed
    assert isinstance(error, RayActorError)
    assert death_reason(error).startswith("the node ran out of memory, and Ray ended the process")
    with pytest.raises(RuntimeError, match="unexpected exception"):
        RayActorManager._actor_task_failed(manager, task, killed)  # as Ray does it by itself
