"""The Ray actor of a trial: folds one after the other, checkpoints, its share of a card."""

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
from tuner.messages.wording import one_line
from tuner.record.history import TrialRecord, trial_id
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share
from tuner.scheduling.scheduler import Assignment

logger = logging.getLogger(__name__)

GPU_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)


CARD_HEADROOM = 0.95
"""Of its share of a card, what a process may allocate; the rest is for its CUDA context."""


ImagesByKey = Mapping[str, Examples]
"""Training splits by `source_key`: more than one only where a dimension changes what is decoded."""


@dataclass(frozen=True)
class WorkerSettings:
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
        self.safety: WorkerSettings = new_config["safety"]
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
            if is_gpu_out_of_memory(error):  # as another library says it
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
