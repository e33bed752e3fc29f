"""Stratified folds, common to all trials of one seed, so that two configurations can be compared fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.images import Ints
from trainables.errors import Problem
from trainables.seeding import rng_for


@dataclass(frozen=True, eq=False)
class Fold:
    """Sorted positions to train on, and those to validate on: together all, and none twice."""

    train: Ints
    validation: Ints


def stratified_folds(labels: Ints, num_folds: int, seed: int) -> tuple[Fold, ...]:
    """Deals the images out like cards, class after class, each class shuffled.

    The validation parts partition the images; their sizes, and their counts of each class, differ by at most one.
    Depends on nothing but the arguments.
    """
    shuffled = rng_for(seed, "folds").permutation(len(labels))
    deck = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[deck] = np.arange(len(labels)) % num_folds
    return tuple(Fold(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(num_folds))


def check_folds(
    labels: Ints, class_names: Sequence[str], num_folds: int, every_class: bool = True, where: str = "num_folds"
) -> list[Problem]:
    """What keeps the images from being split into folds. `where` is the key that the problems are reported under.

    With `every_class`, each class must be in each fold; without, it is enough that each fold has an image.
    """
    if num_folds < 2:
        return [Problem(where, "at least 2", str(num_folds))]
    if len(labels) < num_folds:
        return [Problem(where, f"at least {num_folds} images, one for each fold", str(len(labels)))]
    if not every_class:
        return []
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    short = ", ".join(f"'{class_names[k]}' with {count}" for k, count in enumerate(counts) if count < num_folds)
    expected = f"at least {num_folds} training images of every class, one for each of {num_folds} folds"
    return [Problem(where, expected, short)] if short else []
