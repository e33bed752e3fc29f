"""GPU share of a trial if `resources.gpus` is auto: arithmetic, without Ray and without a GPU.

A share is a fraction 1/k of one GPU, so that k trials use all of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainables.config import TrialConfig
from trainables.data.gpu_pixels import SHARE_OF_FREE_MEMORY
from tuner.experiment.dimensions import Choice, Dimension, Scalar
from tuner.experiment.search_experiment import SearchExperiment

HEADROOM = 1.15
"""Factor on the memory that the probe measured, as later batches fragment the allocator's memory differently."""

NEUTRAL = ("training.schedule", "training.nesterov")
"""Dimensions with choices of words that change no tensor's size. Of numbers the largest is probed anyway."""

OUT_OF_MEMORY = re.compile(
    r"\b(?:CUDA|HIP|MPS)\b[^.\n]{0,30}out of memory"
    r"|cudaErrorMemoryAllocation|(?:CUDA|HIP)_ERROR_OUT_OF_MEMORY"
    r"|(?:CU|HIP|ROC)(?:BLAS|SOLVER|SPARSE|FFT|DNN|RAND)_(?:STATUS_)?(?:ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUDNN_STATUS_INTERNAL_ERROR|CUDNN_STATUS_\w*ALLOCATION_FAILED|miopenStatusAllocFailed"
    r"|unable to find an engine to execute this computation|Unable to find a valid cuDNN algorithm"
    r"|Allocation on device \S* ?would exceed allowed memory",
    re.IGNORECASE,
)
"""How torch and the libraries below it say that they got no memory on a GPU. cuDNN and cuBLAS have other words where
their workspace or their handle does not fit, which is the usual way in a process with a limited share."""

GIB = 2**30


@dataclass(frozen=True)
class GpuMemoryNeed:
    """Measured GPU memory of a trial at its largest setting, in bytes.

    `step_bytes` is the peak of a step or an evaluation, `pixels_bytes` the images that are kept on the GPU if there is
    room, `context_bytes` the memory outside of torch's allocator, `card_bytes` all memory of the GPU, of which
    processes of others hold `others_bytes`.

    >>> need = GpuMemoryNeed(step_bytes=6 * GIB, pixels_bytes=0, context_bytes=GIB // 2, card_bytes=16 * GIB)
    >>> round(need.gpus, 4)
    0.4625
    """

    step_bytes: int
    pixels_bytes: int
    context_bytes: int
    card_bytes: int
    others_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        """Memory of the GPU that trials can share."""
        return self.card_bytes - self.others_bytes

    @property
    def gpus(self) -> float:
        """Smallest fraction of a GPU that is enough for a trial, headroom included; 1 if a whole one is not."""
        step = HEADROOM * self.step_bytes + self.context_bytes
        with_pixels = step + self.pixels_bytes
        # A process keeps its images on the GPU only if they are a small part of its share.
        keeps_pixels = self.pixels_bytes <= SHARE_OF_FREE_MEMORY * with_pixels
        return min(1.0, (with_pixels if keeps_pixels else step) / self.free_bytes)

    @property
    def context(self) -> float:
        """Fraction of a GPU that the CUDA context takes."""
        return self.context_bytes / self.card_bytes

    def __str__(self) -> str:
        taken = self.step_bytes + self.context_bytes
        others = f", of which others hold {self.others_bytes / GIB:.1f}" if self.others_bytes else ""
        if taken >= self.free_bytes:
            return f"the largest step does not fit into {self.card_bytes / GIB:.1f} GiB{others}"
        return f"a step needs {taken / GIB:.1f} GiB of {self.card_bytes / GIB:.1f} GiB{others}"


def trials_per_gpu(least: float, places: int) -> int:
    """Number of trials on one GPU: as many as fit if each needs the fraction `least`, from 1 to `places`.

    >>> trials_per_gpu(0.3, places=8)
    3
    """
    return max(1, min(int(1 / least + 1e-9), places))


def next_larger_share(gpus: float) -> float | None:
    """Returns the share to try after `gpus` was too small, with half as many trials on a GPU; None after a whole one.

    >>> next_larger_share(0.25), next_larger_share(1.0)
    (0.5, None)
    """
    return None if gpus >= 1 else 1 / max(1, round(1 / gpus) // 2)


def is_gpu_out_of_memory(error: object) -> bool:
    """Whether an error, or its message, says that a GPU's memory, or a process's share of it, is exhausted.

    >>> is_gpu_out_of_memory("RuntimeError: CUDA error: out of memory")
    True
    """
    import torch  # only here, as the import takes seconds

    return isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


def largest_configs(spaces: Iterable[SearchExperiment], most: int = 32) -> list[TrialConfig]:
    """Returns the configurations that may need most memory: every number at its upper bound, choices of words combined.

    They are at most `most`, as each is trained for a few steps. If another one needs more, the share grows when a trial
    runs out of memory; see `next_larger_share`.
    """
    found: list[TrialConfig] = []
    for config in itertools.chain.from_iterable(map(_largest_of, spaces)):
        if config not in found:
            found.append(config)
        if len(found) == most:
            break
    return found


def _largest_of(space: SearchExperiment) -> Iterator[TrialConfig]:
    values = {key: _largest(space.branches.path_of(key), d) for key, d in space.dimensions.items()}
    return space.valid_configs(space.branches.grid(values))


def _largest(path: str, dimension: Dimension) -> tuple[Scalar, ...]:
    if not isinstance(dimension, Choice):
        return dimension.bounds()[-1:]
    words = tuple(value for value in dimension.choice if not _is_number(value))
    numbers = [value for value in dimension.choice if _is_number(value)]
    kept = (*words, *([max(numbers)] if numbers else []))  # type: ignore[type-var]
    return kept[:1] if path in NEUTRAL else kept


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
