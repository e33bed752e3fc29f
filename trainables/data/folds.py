"""Stratified folds, the same for all trials of one seed, so that configurations can be compared fold by fold.

Repeated cross-validation deals the examples into folds anew: with F folds a deal, fold k of a trial is part (k − 1) % F
of deal (k − 1) // F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.images import Ints
from trainables.errors import Problem
from trainables.seeding import rng_for


@dataclass(frozen=True, eq=False)
class Fold:
    """Sorted positions of the training and of the validation examples: disjoint, and all together."""

    train: Ints
    validation: Ints


def fold_at(labels: Ints, number: int, num_folds: int, seed: int) -> Fold:
    """Fold `number` of a trial, counted from 1, where every `num_folds` of them are one deal of `stratified_folds`.

    >>> labels = np.array([0, 0, 1, 1])
    >>> [fold_at(labels, number, num_folds=2, seed=0).validation.tolist() for number in (1, 2, 3, 4)]
    [[1, 2], [0, 3], [1, 3], [0, 2]]
    """
    deal, part = divmod(number - 1, num_folds)
    return stratified_folds(labels, num_folds, seed, deal)[part]


def stratified_folds(labels: Ints, num_folds: int, seed: int, deal: int = 0) -> tuple[Fold, ...]:
    """Splits N examples into `num_folds` folds, stratified by `labels` N; otherwise for each `deal`, counted from 0.

    The validation parts partition the examples; their sizes, and their counts of each class, differ by at most one.
    The result depends on the arguments alone, with the draws at (seed, "folds"), of later deals at (seed, "folds",
    deal).

    >>> folds = stratified_folds(np.array([0, 0, 1, 1]), num_folds=2, seed=0)
    >>> [sorted(np.array([0, 0, 1, 1])[fold.validation].tolist()) for fold in folds]
    [[0, 1], [0, 1]]
    """
    address = ("folds", deal) if deal else ("folds",)
    shuffled = rng_for(seed, *address).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[by_class] = np.arange(len(labels)) % num_folds
    return tuple(Fold(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(num_folds))


def check_folds(
    labels: Ints, class_names: Sequence[str], num_folds: int, every_class: bool = True, where: str = "num_folds"
) -> list[Problem]:
    """Problems that prevent a split into folds; `where` is the key under which they are reported.

    With `every_class`, each fold has to have each class; without, at least one image.
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
