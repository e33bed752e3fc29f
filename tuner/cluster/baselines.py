"""Folds of the baselines, as Ray tasks with checkpoints, a time limit and a share of a GPU."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.folds import fold_at
from trainables.device import default_device
from trainables.probe import PROBES
from trainables.training.checkpoint import Checkpoints
from trainables.training.curve import ScoreOf
from trainables.trial import FoldTraining
from tuner.cluster.capacity import LiveCapacity
from tuner.cluster.probes import ProbesByKey
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import failure_of, prepare_process
from tuner.cluster.watchdog import time_limit
from tuner.cluster.worker_reports import FoldDone, FoldFailed
from tuner.experiment.objective import score_of_best
from tuner.experiment.settings import Baseline, SearchSettings
from tuner.record.baselines import LABELS
from tuner.record.directory import RunDirectory
from tuner.record.live_steps import StepFile, shown_in
from tuner.resources.share import Share


@dataclass(frozen=True)
class BaselineFold:
    """One fold of a baseline for a worker: number `fold`, from 1, of deals into `num_folds`.

    `checkpoint_period_s` is None if there are to be no checkpoints; `stacks` is the file for the stack traces of a fold
    that takes longer than `timeout_s` (None: no limit); `best_by` is as of a FoldTraining; `step_file` is for the
    progress within the fold.
    """

    config: TrialConfig
    fold: int
    num_folds: int
    checkpoint_file: Path
    checkpoint_period_s: float | None
    timeout_s: float | None
    stacks: Path
    best_by: ScoreOf | None = None
    step_file: StepFile | None = None

    @property
    def checkpoints(self) -> Checkpoints | None:
        """Checkpoints of this fold, to be made in the process that trains it."""
        if self.checkpoint_period_s is None:
            return None
        return Checkpoints(self.checkpoint_file, self.checkpoint_period_s)


def train_baseline(
    name: Baseline,
    config: TrialConfig,
    folds: Sequence[int],
    examples: Examples,
    probes: ProbesByKey,
    search: SearchSettings,
    share: Share,
    directory: RunDirectory,
) -> Generator[FoldDone | FoldFailed]:
    """Trains `folds` of a baseline, as many at a time as the share says. Yields the report of each as it ends.

    The checkpoint of a fold is removed when the caller asks for the next report.

    Raises:
        WorkerFailed: if the process of a fold died too often.
        GpuOutOfMemory: if its share of a GPU's memory was too small.
        MemoryError: if the examples do not fit into the object store.
    """
    files = {fold: directory.fold_checkpoint(name, fold) for fold in folds}
    examples_ref, probes_ref = put_shared(examples), put_shared(dict(probes))
    jobs = []
    for fold, file in files.items():
        limits = (file, search.checkpoint_period_s, search.fold_timeout_s, directory.hung_stacks(name, fold))
        step_file = StepFile(directory.live_steps, f"{LABELS[name]} fold {fold}")
        job = BaselineFold(config, fold, search.folds, *limits, score_of_best(search), step_file)
        jobs.append((job, examples_ref, probes_ref, share))
    for report in as_completed(train_fold, jobs, share, capacity=LiveCapacity(share)):
        yield report
        Checkpoints(files[report.fold], 0).discard()


def train_fold(job: BaselineFold, examples: Examples, probes: ProbesByKey, share: Share) -> FoldDone | FoldFailed:
    """Trains one fold in this process and returns its report.

    A fold that took too long, whose process has written its stack traces and ended, is not trained again.
    """
    prepare_process(share)
    PROBES.add(probes)
    if job.timeout_s is not None and job.stacks.exists() and job.stacks.stat().st_size:
        limit = f"search.fold_timeout_s = {job.timeout_s:g} s"
        return FoldFailed(job.fold, f"fold {job.fold} took longer than {limit}; its stack traces are in {job.stacks}")
    part = fold_at(examples, job.fold, job.num_folds, job.config.seed)
    try:
        with time_limit(job.timeout_s, job.stacks), shown_in(job.step_file):
            device, checkpoints = default_device(), job.checkpoints
            training = FoldTraining(job.config, examples, job.fold, part, device, checkpoints, job.best_by)
            return FoldDone(training.result(), training.predictions)
    except Exception as error:
        return failure_of(job.fold, error)
