"""Runs trials on Ray Tune: takes assignments from the trial scheduler, and passes on the workers' reports."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune import Callback
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper, Stopper

from tuner.cluster.capacity import LiveCapacity
from tuner.cluster.probes import ProbesByKey
from tuner.cluster.tasks import death_reason, is_node_loss, object_store_errors
from tuner.cluster.trainable import FoldTrainable, ImagesByKey, WorkerSettings
from tuner.cluster.worker_reports import FoldDone, FoldFailed, Report, RungScored
from tuner.experiment.objective import score_of_best
from tuner.record.predictions import PredictionFiles
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share, of_kind
from tuner.scheduling.assignment import Assignment
from tuner.scheduling.scheduler import Decision, TrialScheduler

logger = logging.getLogger(__name__)


MOST_TRIALS = 100_000
"""Ray Tune's own limit of trials at once. The searcher has a lower one, which follows the cluster."""


def run_trials(
    scheduler: TrialScheduler,
    images: ImagesByKey,
    share: Share,
    probes: ProbesByKey | None = None,
    on_capacity: Callable[[Share], object] = lambda share: None,
) -> None:
    """Runs every trial that the scheduler assigns; returns when there are no more.

    `probes` are from `share_probes`; a worker computes those that it lacks. `on_capacity` is called with the share when
    the cluster has another number of places for trials than before.

    Ray Tune's own files are never read: a search is resumed from its journal.

        run_trials(TrialScheduler(space, journal), load_images(space), share)
        best_trial(journal.history.trials.values())

    Raises:
        OSError: if the journal cannot be written.
        MemoryError: if the images do not fit into the object store.
    """
    search, journal = scheduler.space.search, scheduler.journal
    limits = (search.checkpoint_period_s, search.fold_timeout_s)
    settings = WorkerSettings(journal.directory, *limits, best_by=score_of_best(search))
    settings.remove_checkpoints(journal.history.trials)
    with object_store_errors():
        with_images = tune.with_parameters(FoldTrainable, images=dict(images), probes=dict(probes or {}))
    trainable = tune.with_resources(with_images, _resources_of)
    # Tune would pass the driver's AWS keys to its workers in an environment that Ray's agent writes to its log.
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    capacity = LiveCapacity(share, on_capacity)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=SchedulerSearcher(scheduler, settings, capacity),
            scheduler=StrandedTrials(scheduler, capacity),
            num_samples=-1,  # as many as the scheduler assigns
            max_concurrent_trials=share.limit or MOST_TRIALS,
            reuse_actors=True,
            trial_dirname_creator=_trial_name,
            trial_name_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(journal.directory.ray),
            stop=SchedulerStopper(scheduler, settings),
            callbacks=[SchedulerCallback(scheduler, settings, capacity)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),  # the scheduler decides about retries
            verbose=0,
        ),
    )
    try:
        with each_error_is_its_trials():
            tuner.fit()
    except Exception as error:
        if not scheduler.done:
            raise _unwrapped(error) from None
        logger.exception("Ray Tune failed after the last trial")  # e.g. on its own files, which are never read


@contextmanager
def each_error_is_its_trials() -> Iterator[None]:
    """Has Ray Tune take any error of Ray's for the end of the trial's actor inside the block.

    Tune knows those of actors and of their code. For another one, as of an actor that Ray's memory monitor has killed,
    or of a report that was lost with its node, it would end the whole search.
    """
    task_failed, first_result = RayActorManager._actor_task_failed, Trial._get_default_result_or_future

    def any_task_failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        task_failed(manager, tracked_actor_task=tracked_actor_task, exception=exception)

    def first_result_if_any(trial: Trial) -> dict[str, Any] | None:
        try:
            return first_result(trial)
        except RayError:
            trial._default_result_or_future = None
            return None

    setattr(RayActorManager, task_failed.__name__, any_task_failed)
    setattr(Trial, first_result.__name__, first_result_if_any)
    try:
        yield
    finally:
        setattr(RayActorManager, task_failed.__name__, task_failed)
        setattr(Trial, first_result.__name__, first_result)


def _resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Resources that Ray Tune reserves for a trial. It reuses an actor only for trials with the same resources."""
    share: Share = config["share"]
    return tune.PlacementGroupFactory([{"CPU": share.cpus, "GPU": share.gpus, **of_kind(share.accelerator)}])


def _unwrapped(error: Exception) -> BaseException:
    """Returns the error raised in Ray Tune's loop, which a TuneError wraps."""
    return (error.__cause__ or error.__context__ or error) if isinstance(error, TuneError) else error


class SchedulerSearcher(Searcher):
    """Ray Tune's search algorithm: suggests the scheduler's next assignment, with its share of the cluster.

    There are as many assignments as the cluster has room for at the moment. Where it may grow, those of one more node
    wait beside them, which is what an autoscaler goes by.
    """

    def __init__(self, scheduler: TrialScheduler, settings: WorkerSettings, capacity: LiveCapacity) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._settings = settings
        self._capacity = capacity
        self._accelerators: dict[str, str] = {}  # of Tune's trials, by their identifiers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        if self._scheduler.done:
            return str(Searcher.FINISHED)
        history, live = self._scheduler.journal.history, self._capacity.share
        shares = [each.at_least(history.gpus_on(each.accelerator)) for each in live.by_kind()]
        fitting = sum(share.concurrency for share in shares)
        places = min(fitting, live.limit or fitting)
        may_wait = self._capacity.num_pending_of(live.at_least(history.gpus))
        if self._scheduler.num_assigned >= places + may_wait:
            return None
        if live.kinds:
            share = self._with_most_room(shares) if self._scheduler.num_assigned < places else None
            if share is None and not may_wait:
                return None
            share = share or replace(live.at_least(history.gpus), kinds=())  # of any kind, which a node is started for
        else:
            (share,) = shares
        assignment = self._scheduler.next_assignment(places)
        if assignment is None:
            return None
        self._accelerators[trial_id] = share.accelerator
        return {"assignment": assignment, "settings": self._settings, "share": share}

    def _with_most_room(self, shares: Iterable[Share]) -> Share | None:
        used = Counter(self._accelerators.values())
        open_ones = [share for share in shares if self._capacity.is_settled(share.accelerator)]
        most = max(open_ones, key=lambda share: share.concurrency - used[share.accelerator], default=None)
        return None if most is None or most.concurrency <= used[most.accelerator] else most

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Releases the trial's place. Reports arrive by `SchedulerStopper` and `SchedulerCallback`."""
        self._accelerators.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the journal is the state."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()  # Tune pickles its searcher into a snapshot that is never read


class SchedulerStopper(Stopper):
    """Ray Tune's stopper: passes every report to the trial scheduler, and stops trials by its decisions.

    It is not one of Ray Tune's schedulers, as those do not receive results that end their trial.
    """

    def __init__(self, scheduler: TrialScheduler, settings: WorkerSettings) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._predictions = PredictionFiles(scheduler.journal.directory)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        number: int = result["trial"]
        decision = self._decide(number, result["report"])
        trials = self._scheduler.journal.history.trials
        self._settings.remove_checkpoints({number: trials[number]})
        if trials[number].state != "running":
            totals = self._scheduler.journal.history.totals
            self._predictions.keep_trials({*totals.running, *([] if totals.best is None else [totals.best.number])})
        return decision is Decision.STOP

    def _decide(self, number: int, report: Report) -> Decision:
        match report:
            case FoldDone(result, predictions):
                if predictions is not None:  # before the journal says that there are some
                    self._predictions.add_fold(number, result.fold, predictions)
                return self._scheduler.fold_finished(number, result)
            case RungScored(fold, step, val_top1, metrics):
                return self._scheduler.rung_reached(number, fold, step, val_top1, metrics)
            case FoldFailed(fold, reason, trace):
                logger.error("trial %d failed\n%s", number, trace or reason)
                self._scheduler.trial_failed(number, fold, reason)
                return Decision.STOP

    def stop_all(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[NoopStopper], tuple[()]]:
        return NoopStopper, ()  # Tune pickles it into a snapshot that is never read


class SchedulerCallback(Callback):
    """Ray Tune's callback: reports the death of a worker to the trial scheduler, and shrinks what Tune keeps of trials
    that have ended."""

    def __init__(self, scheduler: TrialScheduler, settings: WorkerSettings, capacity: LiveCapacity) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._capacity = capacity

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        assignment: Assignment = trial.config["assignment"]
        number, fold = assignment.number, self._scheduler.fold_at(assignment)
        if fold is None:  # its assignment was over
            return
        stacks = self._settings.hung_stacks(number, fold)
        if stacks.exists() and stacks.stat().st_size:
            limit = f"search.fold_timeout_s = {self._settings.fold_timeout_s:g} s"
            where = stacks.relative_to(self._settings.directory.path)
            reason = f"fold {fold} took longer than {limit}; its stack traces are in {where}"
            self._scheduler.trial_failed(number, fold, reason)
        else:
            self._report_lost(number, fold, _error_of(trial), trial.config["share"])
        self._settings.remove_checkpoints({number: self._scheduler.journal.history.trials[number]})

    def _report_lost(self, number: int, fold: int, error: Exception | None, share: Share) -> None:
        reason = death_reason(error)
        if is_node_loss(error):
            self._capacity.note_node_loss(share.accelerator)
            self._scheduler.node_lost(number, fold, reason)
        elif share.is_auto and is_gpu_out_of_memory(reason):
            self._scheduler.out_of_gpu_memory(number, fold, share.gpus, reason, share.accelerator)
        else:
            self._scheduler.worker_lost(number, fold, reason)

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        return Callback, ()


class StrandedTrials(FIFOScheduler):
    """Ray Tune's scheduler: first come, first served, but a trial that waits for a kind of GPU of which no node is left
    is given back to the trial scheduler, as nothing else would end its wait."""

    def __init__(self, scheduler: TrialScheduler, capacity: LiveCapacity) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scheduler = scheduler
        self._capacity = capacity

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        if self._capacity.share.kinds:
            self._give_back(tune_controller)
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def _give_back(self, tune_controller: Any) -> None:
        for trial in [trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING]:
            accelerator = trial.config["share"].accelerator
            if not accelerator or not self._capacity.is_gone(accelerator):
                continue
            assignment: Assignment = trial.config["assignment"]
            if (fold := self._scheduler.fold_at(assignment)) is not None:
                self._scheduler.node_lost(assignment.number, fold, f"no node with {accelerator} is left")
            _unstage(tune_controller, trial)
            tune_controller.stop_trial(trial)

    def __reduce__(self) -> tuple[type[FIFOScheduler], tuple[()]]:
        return FIFOScheduler, ()


def _unstage(tune_controller: Any, trial: Trial) -> None:
    """Has Tune no longer count a trial among those that wait for resources, as `stop_trial` does not: it would reuse no
    actor of other resources any more."""
    controller = getattr(tune_controller, "_tune_controller", tune_controller)  # which a wrapper keeps from schedulers
    if trial in controller._staged_trials:
        controller._unstage_trial_with_resources(trial)


def forget(trial: Trial) -> None:
    """Removes from an ended trial, which Tune keeps as long as the search runs, what is large: its assignment, the last
    report with the predictions of a fold, and Tune's running statistics of numbers in reports."""
    last = trial.run_metadata.last_result or {}
    trial.run_metadata.last_result = {key: value for key, value in last.items() if key not in ("report", "config")}
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
    trial.config.clear()  # in place, as Tune has it under two names
    trial.evaluated_params.clear()


def _error_of(trial: Trial) -> Exception | None:
    """Returns the error of a trial, which Tune writes to files, some kinds as text alone; `Trial.get_error` does not
    read them."""
    pickled, text = trial.pickled_error_file, trial.error_file
    if pickled is not None:
        error: Exception = cloudpickle.loads(Path(pickled).read_bytes())
        return error
    if text is not None:
        _failure_number, _, message = Path(text).read_text().partition("\n")
        return RayError(message)
    return None


def _trial_name(trial: Trial) -> str:
    assignment: Assignment = trial.config["assignment"]
    return f"{assignment.number:04d}-fold-{assignment.folds[0]}-{trial.trial_id}"
