"""The Ray actor of a trial: folds one after the other, checkpoints, and its share of a GPU."""

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
from ray import tune

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.training.checkpoint import Checkpoints
from trainables.trial import FoldTraining, default_device
from tuner.cluster.watchdog import time_limit
from tuner.cluster.worker_reports import FoldBroke, FoldDone, Report, RungScored
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory
from tuner.record.events import trial_id
from tuner.record.history import TrialRecord
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share
from tuner.scheduling.assignment import Assignment

logger = logging.getLogger(__name__)

GPU_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)

GPU_MEMORY_LIMIT = 0.95
"""Fraction of its share of a GPU that a process may allocate; the rest is for its CUDA context."""

ImagesByKey = Mapping[str, Examples]
"""Training splits by `source_key`: more than one only where a dimension changes what is decoded."""


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker guards its folds.

    `directory` is where the run is kept, `checkpoint_period_s` how often a fold in training is written there (None:
    never), `fold_timeout_s` the time after which a fold counts as hanging (None: never).
    """

    directory: RunDirectory
    checkpoint_period_s: float | None
    fold_timeout_s: float | None

    def checkpoint(self, number: int, fold: int) -> Checkpoints | None:
        """Where a fold is kept while it is trained; None where it is not."""
        if self.checkpoint_period_s is None:
            return None
        return Checkpoints(self.directory.fold_checkpoint(trial_id(number), fold), self.checkpoint_period_s)

    def hung_stacks(self, number: int, fold: int) -> Path:
        """Where the stacks of a fold that hangs are written."""
        return self.directory.hung_stacks(trial_id(number), fold)

    def remove_checkpoints(self, trials: Mapping[int, TrialRecord]) -> None:
        """Removes the checkpoints of trials that ended before their worker could do so."""
        for number, trial in trials.items():
            if trial.state != "running":
                shutil.rmtree(self.directory.trial_checkpoints(trial_id(number)), ignore_errors=True)


def decoded_bytes(images: ImagesByKey) -> int:
    """Bytes that the object store of each node has to hold. Texts take next to nothing."""
    return sum(split.bytes_to_send for split in images.values() if isinstance(split, LabelledImages))


class FoldTrainable(tune.Trainable):
    """Trains folds of one trial at a time; every `step` is one fold, and one more for each rung at which it is scored.

    The actor outlives its trials, so that none may leave anything in it.
    """

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
        self._discard()
        assignment: Assignment = new_config["assignment"]
        self.settings: WorkerSettings = new_config["settings"]
        self.number = assignment.number
        self.trial_config: TrialConfig = assignment.config
        self.folds = assignment.folds
        self.num_folds = assignment.num_folds
        self.rungs = assignment.rungs
        return True

    @property
    def fold(self) -> int:
        """The fold in training, or the next one."""
        return self.folds[0]

    def step(self) -> dict[str, Any]:
        """Trains to the next report, which the driver finds under `report`, with the trial's number under `trial`."""
        return {"trial": self.number, "report": self._step()}

    def _step(self) -> Report:
        started = time.monotonic()
        if self.training is None:
            self._discard()  # the fold before: its result has been taken in, or no other would be asked for
        limit, stacks = self.settings.fold_timeout_s, self.settings.hung_stacks(self.number, self.fold)
        try:
            with time_limit(None if limit is None else limit - self.spent_s, stacks):
                return self._to_next_report()
        except Diverged as diverged:
            return self._ended(FoldBroke(self.fold, f"fold {self.fold} {diverged}"))
        except GPU_ERRORS:
            raise  # the card may be full for now, or this process's context broken: another process tries again
        except Exception as error:  # an error of a trial's code ends that trial, not its actor
            if is_gpu_out_of_memory(error):  # as another library says it
                raise
            logger.exception("trial failed")
            reason = f"fold {self.fold}: {one_line(error)}"
            return self._ended(FoldBroke(self.fold, reason, traceback.format_exc()))
        finally:
            self.spent_s += time.monotonic() - started

    def cleanup(self) -> None:
        """Ends the actor. A fold that is not at its end stays on disk, for the worker that resumes it."""
        if self.has_ended:
            self._discard()

    def _to_next_report(self) -> Report:
        """Trains the fold in training, or the next one, up to its next rung or its end."""
        training = self.training = self.training or self._begin()
        rungs = [step for step in self.rungs if step >= training.step] if self.fold == 1 else []
        if rungs:
            self.rungs = tuple(rungs[1:])
            return RungScored(self.fold, rungs[0], training.score_at(rungs[0]))
        report = self._ended(FoldDone(training.result()))
        self.folds = self.folds[1:]
        return report

    def _begin(self) -> FoldTraining:
        self.checkpoints = self.settings.checkpoint(self.number, self.fold)
        images = self.images_by_key[source_key(self.trial_config.data)]
        fold = stratified_folds(images.labels, self.num_folds, self.trial_config.seed)[self.fold - 1]
        return FoldTraining(self.trial_config, images, self.fold, fold, self.device, self.checkpoints)

    def _ended(self, report: Report) -> Report:
        """Ends a fold. Its checkpoint stays until the driver has taken the report in."""
        self.training, self.has_ended = None, True
        return report

    def _discard(self) -> None:
        """Forgets the fold, and removes its checkpoint."""
        if self.checkpoints is not None:
            self.checkpoints.discard()
        self.training, self.checkpoints, self.spent_s, self.has_ended = None, None, 0.0, False


def prepare_process(share: Share) -> None:
    """Limits a worker to its share: as many threads as cores, and no more of a GPU's memory than its fraction."""
    num_threads = max(1, int(share.cpus))
    torch.set_num_threads(num_threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(num_threads))  # read when the compiler is first needed
    if torch.cuda.is_available() and 0 < share.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(min(GPU_MEMORY_LIMIT * share.gpus, share.gpus - share.context))
