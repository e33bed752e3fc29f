"""Sampling of classes and images: pure functions of labels, sizes and the sampling seed.

The paper's subsets (SMILE, §4.0.1: C:25%/N:400, C:All/N:15%) do not depend on the training seed, so that repeats have
the same images; and they are nested: N:400 is part of N:800.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainables.data.config import DataConfig
from trainables.data.images import Ints
from trainables.errors import Problem
from trainables.seeding import rng_for

Sampling = Literal["stratified", "uniform"]


def draw_classes(num_classes: int, fraction: float, seed: int) -> Ints:
    """Draws round(fraction·K) of K classes (at least one) without replacement, sorted. Exact halves round to even."""
    drawn = max(1, round(fraction * num_classes))
    return np.sort(rng_for(seed, "classes").permutation(num_classes)[:drawn])


def draw_images(labels: Ints, count: int, sampling: Sampling, seed: int, purpose: str) -> Ints:
    """Draws sorted positions of `count` images; a smaller count with the same seed and purpose gives a subset."""
    return np.sort(_order(labels, sampling, seed, purpose)[:count])


def hold_out(labels: Ints, count: int, seed: int, groups: Ints | None = None) -> tuple[Ints, Ints]:
    """Splits positions into (kept, held out), both sorted; `count` are held out, stratified.

    The kept part is the beginning of the stratified order, so that it has every class if it has as many images. With
    `groups` N whole groups are held out, of about `count` images and about the same share of each class, and at least
    one of a class that has two: more than `count` where they are large.
    """
    if groups is not None:
        return _hold_out_groups(labels, count, rng_for(seed, "test"), groups)
    order = _order(labels, "stratified", seed, "test")
    num_kept = len(labels) - count
    return np.sort(order[:num_kept]), np.sort(order[num_kept:])


def _hold_out_groups(labels: Ints, count: int, rng: np.random.Generator, groups: Ints) -> tuple[Ints, Ints]:
    """Holds out, in a random order, each group that brings the counts of the classes nearer to their shares, then the
    smallest ones of classes that would be missing. A group with all that is left of a class is kept."""
    _, group_of = np.unique(groups, return_inverse=True)
    counts_GK = np.zeros((int(group_of.max()) + 1, int(labels.max()) + 1))
    np.add.at(counts_GK, (group_of, labels), 1)
    sizes_K = counts_GK.sum(axis=0)
    shares_K = sizes_K * count / len(labels)
    held_out_G, held_out_K = np.zeros(len(counts_GK), dtype=bool), np.zeros(len(sizes_K))

    def try_to_hold_out(group: int, anyway: bool) -> None:
        with_group_K = held_out_K + counts_GK[group]
        is_nearer = ((shares_K - with_group_K) ** 2).sum() < ((shares_K - held_out_K) ** 2).sum()
        if (anyway or is_nearer) and (with_group_K < sizes_K)[sizes_K > 0].all():
            held_out_G[group], held_out_K[:] = True, with_group_K

    order_G = rng.permutation(len(counts_GK))
    for group in order_G:
        try_to_hold_out(group, anyway=False)
    for group in order_G[np.argsort(counts_GK[order_G].sum(axis=1), kind="stable")]:
        if (held_out_K == 0)[counts_GK[group] > 0].any():
            try_to_hold_out(group, anyway=True)
    return np.flatnonzero(~held_out_G[group_of]), np.flatnonzero(held_out_G[group_of])


def _order(labels: Ints, sampling: Sampling, seed: int, purpose: str) -> Ints:
    """The permutation of the pool whose prefixes are the samples."""
    rng = rng_for(seed, purpose)
    if sampling == "uniform":
        return rng.permutation(len(labels))
    return _stratified_order(labels, rng)


def _stratified_order(labels: Ints, rng: np.random.Generator) -> Ints:
    """A permutation each prefix of which keeps the class shares: image r (from 0) of a class of n comes at r/n.

    A prefix holds ceil(t·n) of each class for some t (Adams' apportionment, and the count of the fixed lists that BSS
    published), but for images that tie at its end, which come in random order. So the first K images are one of each
    class.
    """
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels)
    first = np.cumsum(sizes) - sizes
    label_of = labels[by_class]
    rank = np.arange(len(labels)) - first[label_of]
    order = np.lexsort((rng.permutation(len(labels)), rank / sizes[label_of]))
    return by_class[order]


def num_train_images(config: DataConfig, available: int) -> int:
    """Number of training images that the configuration asks for; may exceed `available`.

    A rate p gives 1+int(p·N) for `uniform`, as in the authors' code (15 % of CUB's 5994 are 900), else round(p·N).
    """
    if config.train_images is not None:
        return config.train_images
    if config.sampling == "uniform":
        return min(available, 1 + int(config.train_fraction * available))
    return round(config.train_fraction * available)


def num_held_out(config: DataConfig, available: int) -> int:
    """Number of `available` images that become the test split of a dataset without one."""
    if config.test_images is not None:
        return config.test_images
    return max(1, round(config.test_fraction * available))


def class_problems(config: DataConfig, num_classes: int) -> list[Problem]:
    """Problems of the share of the classes, of `num_classes` in all."""
    drawn = round(config.class_fraction * num_classes)
    if drawn >= 2:
        return []
    got = f"{config.class_fraction} of {num_classes} classes, which is {drawn}"
    return [Problem("class_fraction", "a share that leaves at least 2 classes", got)]


def size_problems(config: DataConfig, num_classes: int, num_train: int, num_test: int | None) -> list[Problem]:
    """Problems of the sizes, given the images of the drawn classes; `num_test` None: the test split is held out."""
    if num_test is not None:
        return _train_problems(config, num_classes, num_train) + _test_problems(config, num_test)
    held_out = num_held_out(config, num_train)
    problems = _held_out_problems(config, num_classes, num_train, held_out)
    return problems + _train_problems(config, num_classes, num_train if problems else num_train - held_out)


def _train_problems(config: DataConfig, num_classes: int, available: int) -> list[Problem]:
    count = num_train_images(config, available)
    key = train_size_key(config)
    got = str(count) if key == "train_images" else f"{config.train_fraction} of {available}, which is {count}"
    if count > available:
        return [Problem(key, f"at most {available}, the training images of {num_classes} classes", got)]
    if config.sampling == "stratified" and count < num_classes:
        expected = f"at least {num_classes} images, one for each class, with sampling: stratified"
        return [Problem(key, expected, got)]
    return []


def _test_problems(config: DataConfig, available: int) -> list[Problem]:
    if available == 0 and config.class_fraction < 1:
        return [Problem("class_fraction", "a share that leaves a class with test images", f"{config.class_fraction}")]
    if config.test_images is not None and config.test_images > available:
        return [Problem("test_images", f"at most {available}, the size of the test split", str(config.test_images))]
    return []


def _held_out_problems(config: DataConfig, num_classes: int, available: int, held_out: int) -> list[Problem]:
    if available - held_out >= num_classes:
        return []
    key = "test_fraction" if config.test_images is None else "test_images"
    expected = f"a size that leaves at least {num_classes} of {available} images for training, one for each class"
    return [Problem(key, expected, f"{getattr(config, key)}, which leaves {max(0, available - held_out)}")]


def train_size_key(config: DataConfig) -> str:
    """The key that gives the size of the training sample."""
    return "train_fraction" if config.train_images is None else "train_images"
