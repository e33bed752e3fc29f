"""Listings: the files and labels of a dataset, before decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.datasets.formats import open_image
from trainables.data.images import Ints
from trainables.errors import Problem


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a split, not decoded, or its texts.

    `labels` N; `names` N are file paths (with `in_files`) or other identifiers, for messages; `read(i)` opens image i,
    or returns text i. `groups` N, if the dataset knows any, name what belongs together.
    """

    labels: Ints
    names: Sequence[str]
    read: Callable[[int], Any]
    in_files: bool = False
    groups: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Ints) -> Listing:
        """The images at `positions`, in that order."""
        labels, names = self.labels[positions], [self.names[i] for i in positions]
        groups = None if self.groups is None else [self.groups[i] for i in positions]
        return Listing(labels, names, lambda i: self.read(positions[i]), self.in_files, groups)

    def of_classes(self, classes: Ints) -> Listing:
        """The images whose label is in `classes` (sorted), relabelled 0…len(classes)−1."""
        kept = self.take(np.flatnonzero(np.isin(self.labels, classes)))
        return replace(kept, labels=np.searchsorted(classes, kept.labels).astype(np.int64))


def joined(first: Listing, second: Listing) -> Listing:
    """The images of `first`, then those of `second`; with groups if both have them."""

    def read(i: int) -> Any:
        return first.read(i) if i < len(first) else second.read(i - len(first))

    groups = None if first.groups is None or second.groups is None else [*first.groups, *second.groups]
    labels, names = np.concatenate([first.labels, second.labels]), [*first.names, *second.names]
    return Listing(labels, names, read, first.in_files, groups)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset: its classes and its splits; `test` is None if it has to be held out from `train`.

    `problems` did not prevent the listing, and are reported together with later ones. `validation` is a split of its
    own for validation, if there is one, whose `validation_problems` matter only if it is used. `notes` are lines about
    what was not read.
    """

    class_names: tuple[str, ...]
    train: Listing
    test: Listing | None = None
    problems: tuple[Problem, ...] = ()
    validation: Listing | None = None
    validation_problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def listing_of_files(
    paths: Sequence[Path], labels: Sequence[int] | Ints, groups: Sequence[str] | None = None
) -> Listing:
    """Lists image files with their labels, in this order."""
    names = [str(path) for path in paths]
    return Listing(
        np.asarray(labels, dtype=np.int64), names, lambda i: open_image(paths[i]), in_files=True, groups=groups
    )
