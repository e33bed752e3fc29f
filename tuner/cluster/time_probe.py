"""Time probe: times a few steps of a training in workers, as many at once as there are trials at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.util.placement_group import PlacementGroup

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.loading import source_key
from tuner.cluster.free_gpu import NoGpuFree, free_part, reserved
from tuner.cluster.gpu_probe import PART_IF_BUSY, PROBE_WAIT_S
from tuner.cluster.tasks import GpuOutOfMemory, as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.experiment.timing import StepTimes, time_steps
from tuner.resources.gpu_memory import next_larger_share
from tuner.resources.share import Share

MAX_PROBES = 16
"""Number of measurements at once, beyond which more places would not change the mean."""


def probe_step_times(
    config: TrialConfig,
    images: ImagesByKey,
    num_folds: int,
    share: Share,
    is_measured: bool = True,
    say: Callable[[str], object] = print,
) -> tuple[StepTimes, float]:
    """Times steps of `config` with the share of a trial, where the trials will run beside each other. Returns the
    times, and the seconds for which a GPU was waited for before.

    Where an auto share is yet to be measured, one is timed in the largest part of a GPU that is free, or in more where
    that is too small; `say` is told where other work has all of them.

    Raises:
        WorkerFailed: if a worker could not train.
        MemoryError: if the examples do not fit into the object store.
    """
    asked_s, examples = time.monotonic(), put_shared(images[source_key(config.data)])
    if is_measured or not share.is_auto:
        return _mean_of(config, examples, num_folds, share), 0.0
    part: float | None = None
    while True:
        with contextlib.ExitStack() as stack:
            one, room = _reserved_part(stack, share, part, say)
            waited_s = time.monotonic() - asked_s
            try:
                return _mean_of(config, examples, num_folds, one, room), waited_s
            except GpuOutOfMemory as full:
                part = _larger(full)


def _reserved_part(
    stack: contextlib.ExitStack, share: Share, part: float | None, say: Callable[[str], object]
) -> tuple[Share, PlacementGroup]:
    """Reserves a part of one GPU (None: the largest that is free, or else `PART_IF_BUSY`) until `stack` is left."""
    if part is None:
        with contextlib.suppress(NoGpuFree):
            free, room = stack.enter_context(free_part(share, "", PROBE_WAIT_S))
            return replace(share, concurrency=1, gpus=free), room
    one = replace(share, concurrency=1, gpus=part or PART_IF_BUSY)
    return one, stack.enter_context(reserved(one, "", say))


def _larger(full: GpuOutOfMemory) -> float:
    """The next larger part of a GPU. Raises the error where there is none."""
    larger = next_larger_share(full.gpus)
    if larger is None:
        raise full
    return larger


def _mean_of(
    config: TrialConfig, examples: Any, num_folds: int, share: Share, room: PlacementGroup | None = None
) -> StepTimes:
    jobs = [(config, examples, num_folds, share)] * min(share.concurrency, MAX_PROBES)
    return StepTimes.mean(as_completed(_time_steps, jobs, share, room=room))


def _time_steps(config: TrialConfig, examples: Examples, num_folds: int, share: Share) -> StepTimes:
    prepare_process(share)
    return time_steps(config, examples, num_folds)
