"""Decoded, labelled images: one shared pixel array, and any number of selections from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """A selection of N images out of M decoded ones.

    `pixels` uint8 M×H×W×3 are shared by all selections, never copied and maybe read-only; `labels` N and `index` N
    (rows of `pixels`) are the selection's own. The arrays are plain attributes, so that pickle protocol 5 hands them
    over out of band. A selection takes the whole of `pixels` along when it is pickled: send the base once and `take`
    from it there.
    """

    pixels: Pixels
    labels: Ints
    index: Ints
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, pixels: Pixels, labels: Ints, class_names: Sequence[str]) -> LabelledImages:
        """All images of `pixels`, in their order; `labels` has one entry for each."""
        assert len(pixels) == len(labels), f"{len(pixels)} images but {len(labels)} labels"
        return cls(pixels, labels.astype(np.int64), np.arange(len(labels)), tuple(class_names))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Classes of the problem, whether or not each has an image in this selection."""
        return len(self.class_names)

    def take(self, positions: Ints | Sequence[int]) -> LabelledImages:
        """The images at `positions` of this selection, in that order, on the same pixels."""
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(self, labels=self.labels[chosen], index=self.index[chosen])

    def sample(self, count: int) -> Pixels:
        """The first `count` of all images, for an example of what a classifier takes."""
        return self.pixels[:count]
