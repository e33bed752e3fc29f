"""Ray actor of a trial: trains its folds one after the other, with checkpoints, a time limit and a share of a GPU."""

from __future__ import annotations

import gc
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
from torch._inductor import config as inductor_config

from trainables.backbones.kept_networks import KeptNetworks
from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.folds import fold_at
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.device import default_device
from trainables.errors import TrainingFailed
from trainables.probe import PROBES, Probe
from trainables.training.checkpoint import Checkpoints
from trainables.training.curve import ScoreOf
from trainables.training.kernels import CUBLAS_WORKSPACE
from trainables.training.progress import progress_to
from trainables.trial import FoldTraining
from tuner.cluster.gpu_check import inspect_gpu
from tuner.cluster.watchdog import time_limit
from tuner.cluster.worker_reports import FoldDone, FoldFailed, Report, RungScored
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory
from tuner.record.events import trial_id
from tuner.record.history import TrialRecord
from tuner.record.live_steps import StepFile
from tuner.resources.gpu_facts import NoGpu
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share
from tuner.scheduling.assignment import Assignment

logger = logging.getLogger(__name__)

COMPILE_THREADS = "TORCHINDUCTOR_COMPILE_THREADS"
"""Variable of the number of threads of torch.compile; what the user has set stays."""

GPU_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)

GPU_MEMORY_LIMIT = 0.95
"""Fraction of its share of a GPU that a process may allocate; the rest is for its CUDA context."""

ASSUMED_CONTEXT_BYTES = 1 << 29
"""Memory of a CUDA context with cuDNN's and cuBLAS's kernels, where it is not measured; 0.3 to 0.5 GiB are usual."""

ImagesByKey = Mapping[str, Examples]
"""Training splits by `source_key`; more than one only if a dimension changes what is decoded."""


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker: run directory, period of checkpoints, and time limit of a fold (None: no checkpoints, no
    limit); `best_by` as of a FoldTraining.
    """

    directory: RunDirectory
    checkpoint_period_s: float | None
    fold_timeout_s: float | None
    best_by: ScoreOf | None = None

    def checkpoint(self, number: int, fold: int) -> Checkpoints | None:
        """Returns the checkpoints of a fold; None if there are to be none."""
        if self.checkpoint_period_s is None:
            return None
        return Checkpoints(self.directory.fold_checkpoint(trial_id(number), fold), self.checkpoint_period_s)

    def step_file(self, number: int, fold: int) -> StepFile:
        """Returns the file for the progress of a fold."""
        return StepFile(self.directory.live_steps, f"{trial_id(number)} fold {fold}")

    def hung_stacks(self, number: int, fold: int) -> Path:
        """Returns the file for the stack traces of a fold that exceeds the time limit."""
        return self.directory.hung_stacks(trial_id(number), fold)

    def remove_checkpoints(self, trials: Mapping[int, TrialRecord]) -> None:
        """Removes the checkpoints of trials that have ended, which their worker may not have done."""
        for number, trial in trials.items():
            if trial.state != "running":
                shutil.rmtree(self.directory.trial_checkpoints(trial_id(number)), ignore_errors=True)


def decoded_bytes(images: ImagesByKey) -> int:
    """Number of bytes of images in the object store of each node. Texts are not counted, as they take few."""
    return sum(split.bytes_to_send for split in images.values() if isinstance(split, LabelledImages))


class FoldTrainable(tune.Trainable):
    """Ray Tune's Trainable: trains folds of one trial; each `step` is up to the next rung, or the end of a fold.

    Tune reuses the actor for later trials, so that `reset_config` clears all state of the trial.
    """

    training: FoldTraining | None = None
    checkpoints: Checkpoints | None = None
    step_file: StepFile | None = None
    spent_s = 0.0
    """Time that this process has spent on the current fold."""
    has_ended = False
    kept: KeptNetworks | None = None
    """Networks of the fold before, for the next one; None: each fold builds its own."""

    def setup(  # type: ignore[override]  # `with_parameters` adds them
        self, config: dict[str, Any], images: ImagesByKey, probes: Mapping[str, Probe]
    ) -> None:
        prepare_process(config["share"])
        PROBES.add(probes)
        self.images_by_key = images
        self.device = default_device()
        self.kept = KeptNetworks()
        self.reset_config(config)
        gc.freeze()  # what is there now stays: a collection after a fold has little to look at

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
        """Number of the fold in training, or of the next one."""
        return self.folds[0]

    def step(self) -> dict[str, Any]:
        """Trains up to the next report. Returns it under `report`, and the trial's number under `trial`."""
        return {"trial": self.number, "report": self._step()}

    def _step(self) -> Report:
        started = time.monotonic()
        if self.training is None:
            self._discard()  # the previous fold: the driver has recorded its result before it asks for another
        limit, stacks = self.settings.fold_timeout_s, self.settings.hung_stacks(self.number, self.fold)
        try:
            with time_limit(None if limit is None else limit - self.spent_s, stacks):
                return self._to_next_report()
        except Exception as error:  # an error of a trial's code ends that trial, not its actor
            return self._ended(failure_of(self.fold, error))
        finally:
            self.spent_s += time.monotonic() - started

    def cleanup(self) -> None:
        """Ends the actor. The checkpoint of an unfinished fold is kept, for the worker that resumes it."""
        if self.has_ended:
            self._discard()

    def _to_next_report(self) -> Report:
        """Trains the current fold, or begins the next one, up to its next rung or its end."""
        training = self.training = self.training or self._begin()
        rungs = [step for step in self.rungs if step >= training.step] if self.fold == 1 else []
        if rungs:
            self.rungs = tuple(rungs[1:])
            metrics = training.metrics_at(rungs[0])
            return RungScored(self.fold, rungs[0], metrics["top1"], metrics)
        report = self._ended(FoldDone(training.result(), training.predictions))
        self.folds = self.folds[1:]
        return report

    def _begin(self) -> FoldTraining:
        self.checkpoints = self.settings.checkpoint(self.number, self.fold)
        images = self.images_by_key[source_key(self.trial_config.data)]
        fold = fold_at(images, self.fold, self.num_folds, self.trial_config.seed)
        self.step_file = self.settings.step_file(self.number, self.fold)
        with progress_to(self.step_file.write):
            more = (self.checkpoints, self.settings.best_by, self.kept)
            return FoldTraining(self.trial_config, images, self.fold, fold, self.device, *more)

    def _ended(self, report: Report) -> Report:
        """Ends a fold. Its checkpoint is kept until the driver has recorded the report."""
        self.training, self.has_ended = None, True
        self._hide_steps()
        return report

    def _hide_steps(self) -> None:
        """Removes the fold from the progress display."""
        if self.step_file is not None:
            self.step_file.remove()

    def _discard(self) -> None:
        """Clears the state of the fold, and removes its checkpoint."""
        self._hide_steps()
        if self.checkpoints is not None:
            self.checkpoints.discard()
        had_networks = self.training is not None or self.has_ended
        self.training, self.checkpoints, self.spent_s, self.has_ended = None, None, 0.0, False
        if had_networks:  # those of torchvision are in reference cycles, and would stay on the card for some folds
            gc.collect()


def failure_of(fold: int, error: Exception) -> FoldFailed:
    """Describes an error of a fold's training, to be called where it is handled.

    Raises the error again if another process may succeed: the GPU may be full for now, or this process's context
    broken.
    """
    if isinstance(error, TrainingFailed):
        return FoldFailed(fold, f"fold {fold} {error}")
    if isinstance(error, GPU_ERRORS) or is_gpu_out_of_memory(error):  # the latter raised by another library
        raise error
    logger.exception("fold %d failed", fold)
    return FoldFailed(fold, f"fold {fold}: {one_line(error)}", traceback.format_exc())


def prepare_process(share: Share) -> None:
    """Limits this process to its share: one thread for each of its CPUs, and its fraction of a GPU's memory.

    Raises:
        NoGpu: if it has a share of a GPU, and no training can run there: it would train on the CPU.
    """
    torch.set_num_threads(num_threads(share))
    # Inductor has read the variable when it was imported, before the share was known; other processes read it later.
    inductor_config.compile_threads = int(os.environ.setdefault(COMPILE_THREADS, str(num_threads(share))))
    if not share.gpus:
        return
    for name, value in CUBLAS_WORKSPACE.items():  # before CUDA starts, as any trial of this process may need it
        os.environ.setdefault(name, value)
    problem = None if torch.cuda.is_available() else inspect_gpu().problem()
    if problem is not None:
        raise NoGpu(str(problem))
    if torch.cuda.is_available() and share.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(memory_fraction(share, torch.cuda.mem_get_info()[1]))


def num_threads(share: Share) -> int:
    """Number of threads of a process with this share."""
    return max(1, int(share.cpus))


def memory_fraction(share: Share, card_bytes: int) -> float:
    """Fraction of a GPU of so many bytes that a process may allocate: its share of what others leave, without its CUDA
    context, which is measured for an auto share and assumed for a fixed one; at least half of that share."""
    mine = share.gpus * (1 - share.others)
    context = share.context or ASSUMED_CONTEXT_BYTES / card_bytes
    return max(mine / 2, min(GPU_MEMORY_LIMIT * mine, mine - context))
