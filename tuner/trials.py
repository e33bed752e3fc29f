"""The Ray side of a trial: an actor that is reused, one fold a step, data from the object store."""

from __future__ import annotations

import logging
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle, tune
from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper, Stopper

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.training.checkpoint import Checkpoints
from trainables.trial import FoldTraining, default_device
from tuner.cluster import Share, full_store_said, one_line, why_it_died
from tuner.conductor import Assignment, Conductor
from tuner.gpu_share import ran_out_of_card
from tuner.journal import TrialRecord, trial_id
from tuner.watchdog import time_limit

logger = logging.getLogger(__name__)

GPU_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)

CARD_HEADROOM = 0.95
"""Of its share of a card, what a process may allocate; the rest is for its CUDA context."""

ImagesByKey = Mapping[str, Examples]
"""Training splits by `source_key`: more than one only where a dimension changes what is decoded."""


@dataclass(frozen=True)
class Safety:
    """What a worker does against the loss of a fold: where the experiment is kept, how often a fold in training is
    written there, and after what time one counts as hanging; None: never."""

    experiment: Path
    checkpoint_period_s: float | None
    fold_timeout_s: float | None

    def checkpoints(self, number: int) -> Path:
        """The folder of a trial's checkpoints; gone with the trial's end."""
        return self.experiment / "checkpoints" / trial_id(number)

    def checkpoint(self, number: int, fold: int) -> Checkpoints | None:
        """Where a fold is kept while it is trained; None where it is not."""
        if self.checkpoint_period_s is None:
            return None
        return Checkpoints(self.checkpoints(number) / f"fold-{fold}.pt", self.checkpoint_period_s)

    def stacks(self, number: int, fold: int) -> Path:
        """Where a fold that hangs leaves where it stood."""
        return self.experiment / "logs" / f"{trial_id(number)}-fold-{fold}-hung.txt"

    def tidy(self, trials: Mapping[int, TrialRecord]) -> None:
        """Removes what trials have left behind that ended before their worker could."""
        for number, trial in trials.items():
            if trial.state != "running":
                shutil.rmtree(self.checkpoints(number), ignore_errors=True)


def decoded_bytes(images: ImagesByKey) -> int:
    """What the object store of each node has to hold. Texts take next to nothing."""
    return sum(split.bytes_to_send for split in images.values() if isinstance(split, LabelledImages))


def run_trials(conductor: Conductor, images: ImagesByKey, share: Share, directory: Path) -> None:
    """Runs every trial that the conductor hands out; returns when it has no more.

    Ray Tune's own files go to `directory`, and are never read back: the journal is what a search resumes from.

    Raises:
        OSError: where the journal cannot be written.
        MemoryError: where the images do not fit into the object store.
    """
    settings, journal = conductor.space.search, conductor.journal
    safety = Safety(journal.directory, settings.checkpoint_period_s, settings.fold_timeout_s)
    safety.tidy(journal.history.trials)
    with full_store_said():
        with_images = tune.with_parameters(FoldTrainable, images=dict(images))
    trainable = tune.with_resources(with_images, _resources_of)
    # Tune would hand the driver's AWS keys to its workers, by way of an environment that Ray's agent writes to its log.
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=ConductedSearcher(conductor, safety, share),
            num_samples=-1,  # as many as the conductor hands out
            max_concurrent_trials=share.concurrency,
            reuse_actors=True,
            trial_dirname_creator=_trial_name,
            trial_name_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(directory),
            stop=ConductedStopper(conductor, safety),
            callbacks=[ConductorCallback(conductor, safety)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),  # the conductor repeats what can be repeated
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        if not conductor.done:
            raise _unwrapped(error) from None
        logger.exception("Ray Tune broke off after the last trial")  # over its own files, which nobody reads


def _resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What Ray Tune keeps for a trial. An actor is reused only for trials with as much, and ended where others wait."""
    share: Share = config["share"]
    return tune.PlacementGroupFactory([{"CPU": share.cpus, "GPU": share.gpus}])


def _unwrapped(error: Exception) -> BaseException:
    """What was raised in Ray Tune's loop, of which a TuneError holds the traceback as its text."""
    return (error.__cause__ or error.__context__ or error) if isinstance(error, TuneError) else error


class FoldTrainable(tune.Trainable):
    """Folds of one trial at a time; every `step` is one fold. The actor outlives its trials, so none may leave anything
    behind. A fold that is scored at rungs takes a step more for each."""

    training: FoldTraining | None = None
    checkpoints: Checkpoints | None = None
    spent_s = 0.0
    """Time that this process has spent on the fold."""
    has_ended = False

    def setup(  # type: ignore[override]  # `with_parameters` adds them
        self, config: dict[str, Any], images: ImagesByKey
    ) -> None:
        prepare_process(config["share"])
        self.images_by_key = images
        self.device = default_device()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._let_go()
        assignment: Assignment = new_config["assignment"]
        self.safety: Safety = new_config["safety"]
        self.number = assignment.number
        self.trial_config: TrialConfig = assignment.config
        self.folds = assignment.folds
        self.num_folds = assignment.num_folds
        self.rungs = assignment.rungs
        return True

    @property
    def fold(self) -> int:
        """The one that is under way, or next."""
        return self.folds[0]

    def step(self) -> dict[str, Any]:
        started = time.monotonic()
        if self.training is None:
            self._let_go()  # of the fold before: its result has been taken in, or no other would be asked for
        limit, stacks = self.safety.fold_timeout_s, self.safety.stacks(self.number, self.fold)
        try:
            with time_limit(None if limit is None else limit - self.spent_s, stacks):
                return self._to_next_report()
        except Diverged as diverged:
            return self._ended(failed=f"fold {self.fold} {diverged}")
        except GPU_ERRORS:
            raise  # the card may be full for now, or this process's context broken: another process tries again
        except Exception as error:  # whatever a trial's code raises is that trial's end, not its actor's
            if ran_out_of_card(error):  # as another library says it
                raise
            logger.exception("trial failed")
            return self._ended(failed=f"fold {self.fold}: {one_line(error)}", trace=traceback.format_exc())
        finally:
            self.spent_s += time.monotonic() - started

    def cleanup(self) -> None:
        """The actor's end. A fold that is not at its own stays on disk, for the worker that takes it up."""
        if self.has_ended:
            self._let_go()

    def _to_next_report(self) -> dict[str, Any]:
        """Trains the fold that is under way, or the next one, up to its next rung or its end."""
        training = self.training = self.training or self._begun()
        rungs = [step for step in self.rungs if step >= training.step] if self.fold == 1 else []
        if rungs:
            self.rungs = tuple(rungs[1:])
            val_top1 = training.score_at(rungs[0])
            return self._said(rung={"step": rungs[0], "val_top1": val_top1})
        said = self._ended(result=training.result().as_dict())
        self.folds = self.folds[1:]
        return said

    def _begun(self) -> FoldTraining:
        self.checkpoints = self.safety.checkpoint(self.number, self.fold)
        images = self.images_by_key[source_key(self.trial_config.data)]
        fold = stratified_folds(images.labels, self.num_folds, self.trial_config.seed)[self.fold - 1]
        return FoldTraining(self.trial_config, images, self.fold, fold, self.device, self.checkpoints)

    def _ended(self, **what: Any) -> dict[str, Any]:
        """A fold's result, or its failure. Its checkpoint stays until that has been taken in."""
        self.training, self.has_ended = None, True
        return self._said(**what)

    def _let_go(self) -> None:
        """Of whatever fold there was, and its checkpoint."""
        if self.checkpoints is not None:
            self.checkpoints.discard()
        self.training, self.checkpoints, self.spent_s, self.has_ended = None, None, 0.0, False

    def _said(self, **what: Any) -> dict[str, Any]:
        """A result for `ConductedStopper`, which alone decides whether the trial goes on."""
        return {"trial": self.number, "fold": self.fold, **what}


def prepare_process(share: Share) -> None:
    """Makes a worker keep to its share: as many threads as cores, and no more of a card's memory than its fraction."""
    num_threads = max(1, int(share.cpus))
    torch.set_num_threads(num_threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(num_threads))  # read when the compiler is first needed
    if torch.cuda.is_available() and 0 < share.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(min(CARD_HEADROOM * share.gpus, share.gpus - share.context))


class ConductedSearcher(Searcher):
    """Ray Tune's search algorithm: asks the conductor. Each trial comes with the share that it is to get."""

    def __init__(self, conductor: Conductor, safety: Safety, share: Share) -> None:
        super().__init__()
        self._conductor = conductor
        self._safety = safety
        self._share = share

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        if self._conductor.done:
            return str(Searcher.FINISHED)
        share = self._share.grown_to(self._conductor.journal.history.gpus)
        if self._conductor.num_at_work >= share.concurrency:  # of a share that has grown: Tune knows the first
            return None
        assignment = self._conductor.next_assignment(share.concurrency)
        return None if assignment is None else {"assignment": assignment, "safety": self._safety, "share": share}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends come through `ConductorCallback`."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()  # Tune pickles its searcher into a snapshot that nobody reads


class ConductedStopper(Stopper):
    """Hands every result to the conductor, and stops the trials that it says are to stop.

    A stopper and no scheduler: Ray Tune asks a scheduler only about results that do not end their trial.
    """

    def __init__(self, conductor: Conductor, safety: Safety) -> None:
        self._conductor = conductor
        self._safety = safety

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        number = result["trial"]
        stops = not self._goes_on(number, result)
        self._safety.tidy({number: self._conductor.journal.history.trials[number]})
        return stops

    def _goes_on(self, number: int, result: dict[str, Any]) -> bool:
        if "failed" in result:
            logger.error("trial %d failed\n%s", number, result.get("trace", result["failed"]))
            self._conductor.trial_failed(number, result["fold"], result["failed"])
            return False
        if "rung" in result:
            return self._conductor.rung_reached(number, result["fold"], **result["rung"])
        return self._conductor.fold_finished(number, result["result"])

    def stop_all(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[NoopStopper], tuple[()]]:
        return NoopStopper, ()  # Tune pickles it into a snapshot that nobody reads


class ConductorCallback(Callback):
    """A worker's death → the conductor."""

    def __init__(self, conductor: Conductor, safety: Safety) -> None:
        self._conductor = conductor
        self._safety = safety

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        assignment: Assignment = trial.config["assignment"]
        number, fold = assignment.number, self._conductor.fold_at(assignment)
        if fold is None:  # its work was done
            return
        stacks = self._safety.stacks(number, fold)
        if stacks.exists() and stacks.stat().st_size:
            limit = f"search.fold_timeout_s = {self._safety.fold_timeout_s:g} s"
            where = stacks.relative_to(self._safety.experiment)
            self._conductor.trial_failed(number, fold, f"fold {fold} took longer than {limit}; where it stood: {where}")
        else:
            self._lost(number, fold, why_it_died(_error_of(trial)), trial.config["share"])
        self._safety.tidy({number: self._conductor.journal.history.trials[number]})

    def _lost(self, number: int, fold: int, why: str, share: Share) -> None:
        if share.is_auto and ran_out_of_card(why):
            self._conductor.out_of_memory(number, fold, share.gpus, why)
        else:
            self._conductor.worker_lost(number, fold, why)

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        return Callback, ()


def _error_of(trial: Trial) -> Exception | None:
    """What Ray raised. Tune keeps it in files, some kinds as text alone; `Trial.get_error` looks in another place."""
    pickled, text = trial.pickled_error_file, trial.error_file
    if pickled is not None:
        error: Exception = cloudpickle.loads(Path(pickled).read_bytes())
        return error
    if text is not None:
        _failure_number, _, said = Path(text).read_text().partition("\n")
        return RayError(said)
    return None


def _trial_name(trial: Trial) -> str:
    assignment: Assignment = trial.config["assignment"]
    return f"{assignment.number:04d}-fold-{assignment.folds[0]}-{trial.trial_id}"
