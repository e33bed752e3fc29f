"""Decoded, labelled images: selections from one shared pixel array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.mapped_pixels import PixelFile

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """A selection of N images out of M decoded ones.

    `pixels` uint8 M×H×W×3 are shared by all selections, never copied, and may be read-only; `labels` N, `index` N (rows
    of `pixels`), `groups` N (numbers of what belongs together, if anything does) and `validated` N (which are of the
    dataset's own validation split, if that is used) belong to the selection. The arrays
    are plain attributes, so that pickle protocol 5 transfers them out of band. A pickled selection contains all of
    `pixels`: send the whole once, and `take` from it there. If `pixels` are in a `file` and too large to send, the
    pickle contains the path instead, and the file is mapped again: the processes of a machine then share its pages in
    memory.
    """

    pixels: Pixels
    labels: Ints
    index: Ints
    class_names: tuple[str, ...]
    file: PixelFile | None = None
    groups: Ints | None = None
    validated: Mask | None = None

    @classmethod
    def of(
        cls,
        pixels: Pixels,
        labels: Ints,
        class_names: Sequence[str],
        file: PixelFile | None = None,
        groups: Ints | None = None,
        validated: Mask | None = None,
    ) -> LabelledImages:
        """All images of `pixels`, in their order; `labels`, and `groups` and `validated` where there are any, have one
        entry for each."""
        assert len(pixels) == len(labels), f"{len(pixels)} images but {len(labels)} labels"
        index = np.arange(len(labels))
        return cls(pixels, labels.astype(np.int64), index, tuple(class_names), file, groups, validated)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Classes of the problem, whether or not each has an image in this selection."""
        return len(self.class_names)

    def take(self, positions: Ints | Sequence[int]) -> LabelledImages:
        """The images at `positions` of this selection, in that order, on the same pixels."""
        chosen = np.asarray(positions, dtype=np.int64)
        groups = None if self.groups is None else self.groups[chosen]
        validated = None if self.validated is None else self.validated[chosen]
        labels, index = self.labels[chosen], self.index[chosen]
        return replace(self, labels=labels, index=index, groups=groups, validated=validated)

    def sample(self, count: int) -> Pixels:
        """The first `count` of all images, as an example input of a classifier."""
        return self.pixels[:count]

    @property
    def bytes_to_send(self) -> int:
        """Size of the pixels in a pickle: 0 if the path of their file is sent instead."""
        return 0 if self._sent_as_file else self.pixels.nbytes

    @property
    def _sent_as_file(self) -> bool:
        return self.file is not None and self.file.is_too_large_to_send

    def __reduce__(self) -> tuple[Any, ...]:
        rest = (self.labels, self.index, self.class_names)
        if self._sent_as_file:
            return _from_file, (self.file, *rest, self.groups, self.validated)
        # The receiver may not have the file.
        return LabelledImages, (self.pixels, *rest, None, self.groups, self.validated)


def _from_file(
    file: PixelFile,
    labels: Ints,
    index: Ints,
    class_names: tuple[str, ...],
    groups: Ints | None,
    validated: Mask | None,
) -> LabelledImages:
    return LabelledImages(file.open_as_sent(), labels, index, class_names, file, groups, validated)
