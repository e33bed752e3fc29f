"""Stratified folds, the same for all trials of one seed, so that configurations can be compared fold by fold.

Repeated cross-validation deals the examples into folds anew: with F folds a deal, fold k of a trial is part (k − 1) % F
of deal (k − 1) // F. Examples of one group are all in the training part of a fold or all in its validation part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from trainables.data.images import Ints, Mask
from trainables.errors import Problem
from trainables.seeding import rng_for, seed_for

GROUP_WEIGHTS = (2, 3, 4)
"""How often later deals count the examples of a group, drawn for each; see `_grouped`."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Sorted positions of the training and of the validation examples: disjoint, and all together."""

    train: Ints
    validation: Ints


class Dealt(Protocol):
    """What is dealt into folds: examples with labels N and, if some of them belong together, groups N; `validated` N
    are those of a validation split of the dataset's own, which is not dealt."""

    @property
    def labels(self) -> Ints: ...
    @property
    def groups(self) -> Ints | None: ...
    @property
    def validated(self) -> Mask | None: ...


def fold_at(examples: Dealt, number: int, num_folds: int, seed: int) -> Fold:
    """Fold `number` of a trial, counted from 1, where every `num_folds` of them are one deal of `stratified_folds`.

    Examples with a validation split of their own have that fold alone.

    >>> from trainables.data.texts import LabelledTexts
    >>> texts = LabelledTexts.of(["good", "fine", "bad", "poor"], np.array([0, 0, 1, 1]), ["+", "-"])
    >>> [fold_at(texts, number, num_folds=2, seed=0).validation.tolist() for number in (1, 2, 3, 4)]
    [[1, 2], [0, 3], [1, 3], [0, 2]]
    """
    if examples.validated is not None:
        return Fold(np.flatnonzero(~examples.validated), np.flatnonzero(examples.validated))
    deal, part = divmod(number - 1, num_folds)
    return stratified_folds(examples.labels, num_folds, seed, deal, examples.groups)[part]


def num_dealt(examples: Dealt) -> int:
    """Number of the examples that are dealt into folds: those that are not of a validation split of their own."""
    return len(examples.labels) if examples.validated is None else int((~examples.validated).sum())


def stratified_folds(
    labels: Ints, num_folds: int, seed: int, deal: int = 0, groups: Ints | None = None
) -> tuple[Fold, ...]:
    """Splits N examples into `num_folds` folds, stratified by `labels` N; otherwise for each `deal`, counted from 0.

    The validation parts partition the examples; their sizes, and their counts of each class, differ by at most one.
    With `groups` N each group is in one of them as a whole, and they are as even as scikit-learn's StratifiedGroupKFold
    makes them. The result depends on the arguments alone, with the draws at (seed, "folds"), of later deals at (seed,
    "folds", deal).

    >>> folds = stratified_folds(np.array([0, 0, 1, 1]), num_folds=2, seed=0)
    >>> [sorted(np.array([0, 0, 1, 1])[fold.validation].tolist()) for fold in folds]
    [[0, 1], [0, 1]]
    >>> folds = stratified_folds(np.array([0, 0, 1, 1, 1, 1]), 2, seed=0, groups=np.array([7, 8, 5, 5, 6, 6]))
    >>> sorted(fold.validation.tolist() for fold in folds)
    [[0, 2, 3], [1, 4, 5]]
    """
    if groups is not None:
        labels_bytes, groups_bytes = (array.astype(np.int64).tobytes() for array in (labels, groups))
        fold_of = _grouped(labels_bytes, groups_bytes, num_folds, seed, deal)
    else:
        shuffled = rng_for(seed, *_address(deal)).permutation(len(labels))
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        fold_of = np.empty(len(labels), dtype=np.int64)
        fold_of[by_class] = np.arange(len(labels)) % num_folds
    return tuple(Fold(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(num_folds))


def _address(deal: int) -> tuple[str | int, ...]:
    return ("folds", deal) if deal else ("folds",)


@lru_cache(maxsize=16)  # a trial asks for fold after fold, and each deal takes a loop over all groups
def _grouped(labels: bytes, groups: bytes, num_folds: int, seed: int, deal: int) -> Ints:
    """The fold of each example, by scikit-learn's StratifiedGroupKFold.

    That deals the groups out greedily, the largest first, and draws the order of equal ones alone: groups of different
    sizes would be dealt in the same way every time. So later deals count each group as often as one of
    `GROUP_WEIGHTS`. Examples are counted `num_folds` times besides, as scikit-learn refuses smaller classes.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    labels_N, groups_N = np.frombuffer(labels, np.int64), np.frombuffer(groups, np.int64)
    _, group_of = np.unique(groups_N, return_inverse=True)
    num_groups = int(group_of.max()) + 1
    weights = np.ones(num_groups, dtype=np.int64)
    if deal:
        weights = rng_for(seed, *_address(deal)).choice(GROUP_WEIGHTS, num_groups)
    repeated = np.repeat(np.arange(len(labels_N)), num_folds * weights[group_of])
    order = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed_for(seed, *_address(deal)) % 2**32)
    fold_of = np.empty(len(labels_N), dtype=np.int64)
    for number, (_, validation) in enumerate(order.split(repeated, labels_N[repeated], group_of[repeated])):
        fold_of[repeated[validation]] = number
    fold_of.flags.writeable = False
    return fold_of


def check_folds(
    labels: Ints,
    class_names: Sequence[str],
    num_folds: int,
    every_class: bool = True,
    where: str = "num_folds",
    groups: Ints | None = None,
) -> list[Problem]:
    """Problems that prevent a split into folds; `where` is the key under which they are reported.

    With `every_class`, each fold has to have each class; without, at least one image. With `groups`, there has to be
    one for each fold, and with `every_class` two of each class, to train on one and validate on another.
    """
    if num_folds < 2:
        return [Problem(where, "at least 2", str(num_folds))]
    if len(labels) < num_folds:
        return [Problem(where, f"at least {num_folds} images, one for each fold", str(len(labels)))]
    if groups is not None and (problem := _group_problem(labels, class_names, num_folds, every_class, groups)):
        return [problem]
    if not every_class:
        return []
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    short = ", ".join(f"'{class_names[k]}' with {count}" for k, count in enumerate(counts) if count < num_folds)
    expected = f"at least {num_folds} training images of every class, one for each of {num_folds} folds"
    return [Problem(where, expected, short)] if short else []


def _group_problem(
    labels: Ints, class_names: Sequence[str], num_folds: int, every_class: bool, groups: Ints
) -> Problem | None:
    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        return Problem("group_by", f"at least {num_folds} groups, one for each fold", str(num_groups))
    if not every_class:
        return None
    of_class = [len(np.unique(groups[labels == k])) for k in range(len(class_names))]
    short = ", ".join(f"'{class_names[k]}' in {count}" for k, count in enumerate(of_class) if count < 2)
    if short:
        expected = "every class in at least 2 groups of training images, to validate on one that is not trained on"
        return Problem("group_by", expected, short)
    return None
