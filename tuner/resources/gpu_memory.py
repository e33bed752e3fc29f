"""What part of a GPU a trial gets where `resources.gpus` is auto: arithmetic, without Ray and without a GPU.

A share is 1/k of a card for k trials on it, for anything between would be left over.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainables.config import TrialConfig
from trainables.data.gpu_pixels import SHARE_OF_FREE_MEMORY
from tuner.experiment.dimensions import Choice, Dimension, Scalar
from tuner.experiment.points import grid
from tuner.experiment.search_experiment import SearchExperiment

HEADROOM = 1.15
"""Bytes that a trial gets for each that the probe took: later batches leave other gaps in the allocator's memory."""

NEUTRAL = ("training.schedule", "training.nesterov")
"""Choices of words that change no tensor's size. Numbers need no such list: of each, the largest is probed."""

OUT_OF_MEMORY = re.compile(r"(CUDA|HIP) (error: )?out of memory|CUBLAS_STATUS_ALLOC_FAILED")

GIB = 2**30


@dataclass(frozen=True)
class GpuMemoryNeed:
    """What a trial at its largest setting took of a card, in bytes: `step_bytes` at most for a step or an evaluation,
    `pixels_bytes` for images that stay on the card where there is room, `context_bytes` beyond torch's allocator."""

    step_bytes: int
    pixels_bytes: int
    context_bytes: int
    card_bytes: int

    @property
    def gpus(self) -> float:
        """The least share of a card that a trial can do with, headroom included; 1 where a card is too small."""
        step = HEADROOM * self.step_bytes + self.context_bytes
        with_pixels = step + self.pixels_bytes
        # A process keeps its images on the card only where they are a small part of its share.
        stay = self.pixels_bytes <= SHARE_OF_FREE_MEMORY * with_pixels
        return min(1.0, (with_pixels if stay else step) / self.card_bytes)

    @property
    def context(self) -> float:
        """The context's share of a card."""
        return self.context_bytes / self.card_bytes

    def __str__(self) -> str:
        taken = self.step_bytes + self.context_bytes
        if taken >= self.card_bytes:
            return f"the largest step does not fit into {self.card_bytes / GIB:.1f} GiB"
        return f"a step needs {taken / GIB:.1f} GiB of {self.card_bytes / GIB:.1f} GiB"


def trials_per_card(least: float, places: int) -> int:
    """How many trials share a card, where each needs `least` of it and there are `places` for no more; one at least."""
    return max(1, min(int(1 / least + 1e-9), places))


def next_larger_share(gpus: float) -> float | None:
    """The share after one that was too little: for half as many trials on a card; None beyond a whole card."""
    return None if gpus >= 1 else 1 / max(1, round(1 / gpus) // 2)


def is_gpu_out_of_memory(said: object) -> bool:
    """Whether an error, or what was said of one, is that of a card whose memory, or a process's part of it, is full."""
    return OUT_OF_MEMORY.search(str(said)) is not None


def largest_configs(spaces: Iterable[SearchExperiment], most: int = 32) -> list[TrialConfig]:
    """The settings that may need most memory: every number at its greatest, with the words in combination.

    At most `most` of them, for each is a few steps of training. What is beyond them, or needs more where a number is
    small, is left to `grown`.
    """
    found: list[TrialConfig] = []
    for config in itertools.chain.from_iterable(map(_largest_of, spaces)):
        if config not in found:
            found.append(config)
        if len(found) == most:
            break
    return found


def _largest_of(space: SearchExperiment) -> Iterator[TrialConfig]:
    values = {path: _largest(path, dimension) for path, dimension in space.dimensions.items()}
    return space.valid_configs(grid(values))


def _largest(path: str, dimension: Dimension) -> tuple[Scalar, ...]:
    if not isinstance(dimension, Choice):
        return dimension.bounds()[-1:]
    words = tuple(value for value in dimension.choice if not _is_number(value))
    numbers = [value for value in dimension.choice if _is_number(value)]
    kept = (*words, *([max(numbers)] if numbers else []))  # type: ignore[type-var]
    return kept[:1] if path in NEUTRAL else kept


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
