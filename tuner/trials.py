"""The Ray side of a trial: an actor that is reused, one fold a step, data from the object store."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper, Stopper

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.folds import stratified_folds
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.trial import default_device, validate_fold
from tuner.cluster import Share
from tuner.conductor import Assignment, Conductor

logger = logging.getLogger(__name__)

GPU_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)

CARD_HEADROOM = 0.95
"""Of its share of a card, what a process may allocate; the rest is for its CUDA context."""

ImagesByKey = Mapping[str, Examples]
"""Training splits by `source_key`: more than one only where a dimension changes what is decoded."""


def run_trials(conductor: Conductor, images: ImagesByKey, share: Share, directory: Path) -> None:
    """Runs every trial that the conductor hands out; returns when it has no more.

    Ray Tune's own files go to `directory`, and are never read back: the journal is what a search resumes from.
    """
    trainable = tune.with_resources(
        tune.with_parameters(FoldTrainable, images=dict(images), share=share),
        {"cpu": share.cpus, "gpu": share.gpus},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=ConductedSearcher(conductor),
            num_samples=-1,  # as many as the conductor hands out
            max_concurrent_trials=share.concurrency,
            reuse_actors=True,
            trial_dirname_creator=_trial_name,
            trial_name_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(directory),
            stop=ConductedStopper(conductor),
            callbacks=[ConductorCallback(conductor)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),  # the conductor repeats what can be repeated
            verbose=0,
        ),
    )
    tuner.fit()


class FoldTrainable(tune.Trainable):
    """One trial at a time; every `step` is one fold. The actor outlives its trials, so none may leave anything
    behind."""

    def setup(  # type: ignore[override]  # `with_parameters` adds them
        self, config: dict[str, Any], images: ImagesByKey, share: Share
    ) -> None:
        prepare_process(share)
        self.images_by_key = images
        self.device = default_device()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        assignment: Assignment = new_config["assignment"]
        self.number = assignment.number
        self.trial_config: TrialConfig = assignment.config
        self.fold = assignment.first_fold
        self.num_folds = assignment.num_folds
        return True

    def step(self) -> dict[str, Any]:
        try:
            images = self.images_by_key[source_key(self.trial_config.data)]
            folds = stratified_folds(images.labels, self.num_folds, self.trial_config.seed)
            result = validate_fold(self.trial_config, images, self.fold, folds[self.fold - 1], self.device)
        except Diverged as diverged:
            return self._said(failed=f"fold {self.fold} {diverged}")
        except GPU_ERRORS:
            raise  # the card may be full for now, or this process's context broken: another process tries again
        except Exception as error:  # whatever a trial's code raises is that trial's end, not its actor's
            logger.exception("trial failed")
            return self._said(failed=f"fold {self.fold}: {one_line(error)}", trace=traceback.format_exc())
        self.fold += 1
        return self._said(result=result.as_dict())

    def _said(self, **what: Any) -> dict[str, Any]:
        """A result for `ConductedStopper`, which alone decides whether the trial goes on."""
        return {"trial": self.number, **what}


def prepare_process(share: Share) -> None:
    """Makes a worker keep to its share: as many threads as cores, and no more of a card's memory than its fraction."""
    torch.set_num_threads(max(1, int(share.cpus)))
    if torch.cuda.is_available() and 0 < share.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(CARD_HEADROOM * share.gpus)


def one_line(error: BaseException) -> str:
    """An exception in one line: its class, and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


class ConductedSearcher(Searcher):
    """Ray Tune's search algorithm: asks the conductor."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        if self._conductor.done:
            return str(Searcher.FINISHED)
        assignment = self._conductor.next_assignment()
        return {"assignment": assignment} if assignment is not None else None

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

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        number = result["trial"]
        if "failed" in result:
            logger.error("trial %d failed\n%s", number, result.get("trace", result["failed"]))
            self._conductor.trial_failed(number, result["failed"])
            return True
        if "rung" in result:
            return not self._conductor.rung_reached(number, **result["rung"])
        return not self._conductor.fold_finished(number, result["result"])

    def stop_all(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[NoopStopper], tuple[()]]:
        return NoopStopper, ()  # Tune pickles it into a snapshot that nobody reads


class ConductorCallback(Callback):
    """A worker's death → the conductor."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        error = trial.get_error()
        self._conductor.worker_lost(trial.config["assignment"].number, one_line(error) if error else "no reason known")

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        return Callback, ()


def _trial_name(trial: Trial) -> str:
    return f"{trial.config['assignment'].number:04d}-{trial.trial_id}"
