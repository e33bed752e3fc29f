from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trainables.data.config import DataConfig
from trainables.data.images import Ints
from trainables.data.sampling import (
    Sampling,
    class_problems,
    draw_classes,
    draw_images,
    hold_out,
    num_train_images,
    size_problems,
)
from trainables.errors import Problem
from trainables.seeding import rng_for


@pytest.fixture
def labels() -> Ints:
    """200 images of six classes, from 2 to 90 each, in mixed order."""
    sizes = [2, 5, 13, 30, 60, 90]
    return rng_for(0, "labels").permutation(np.repeat(np.arange(6), sizes))


def config(**fields: object) -> DataConfig:
    return DataConfig.model_validate({"dataset": "digits", **fields})


@pytest.mark.parametrize(("num_classes", "drawn"), [(200, 50), (196, 49), (100, 25)])
def test_a_quarter_of_the_papers_classes(num_classes: int, drawn: int) -> None:
    classes = draw_classes(num_classes, 0.25, seed=0)
    assert len(set(classes.tolist())) == drawn
    assert (np.diff(classes) > 0).all()
    assert classes.max() < num_classes


def test_all_classes_are_all_classes() -> None:
    assert draw_classes(7, 1.0, seed=3).tolist() == list(range(7))


def test_another_sampling_seed_draws_other_classes() -> None:
    assert draw_classes(200, 0.25, seed=0).tolist() != draw_classes(200, 0.25, seed=1).tolist()


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_smaller_samples_are_part_of_larger_ones(labels: Ints, sampling: Sampling) -> None:
    samples = [set(draw_images(labels, n, sampling, 0, "train_images").tolist()) for n in range(1, len(labels) + 1)]
    assert [len(s) for s in samples] == list(range(1, len(labels) + 1))
    assert all(small < large for small, large in pairwise(samples))


def test_stratified_samples_keep_the_shares(labels: Ints) -> None:
    sizes = np.bincount(labels)
    for count in range(6, len(labels) + 1):
        drawn = np.bincount(labels[draw_images(labels, count, "stratified", 0, "train_images")], minlength=6)
        assert drawn.min() >= 1
        share = count / len(labels)
        assert (np.abs(drawn - share * sizes) < 2).all(), count


def test_stratified_samples_of_equal_classes_differ_by_at_most_one() -> None:
    labels = np.repeat(np.arange(10), 30)
    for count in (10, 57, 150, 299):
        drawn = np.bincount(labels[draw_images(labels, count, "stratified", 0, "train_images")])
        assert np.ptp(drawn) <= 1


def test_uniform_samples_do_not_look_at_labels(labels: Ints) -> None:
    relabelled = draw_images(np.zeros_like(labels), 50, "uniform", 0, "train_images")
    np.testing.assert_array_equal(relabelled, draw_images(labels, 50, "uniform", 0, "train_images"))


@pytest.mark.parametrize(
    ("available", "rate", "expected"),
    [(5994, 0.15, 900), (5994, 0.30, 1799), (6667, 0.15, 1001), (8144, 0.15, 1222), (5994, 1.0, 5994)],
)
def test_uniform_rates_count_as_the_authors_code(available: int, rate: float, expected: int) -> None:
    assert num_train_images(config(train_fraction=rate, sampling="uniform"), available) == expected


def test_stratified_rates_are_rounded() -> None:
    assert num_train_images(config(train_fraction=0.15), 5994) == 899


def test_held_out_and_kept_partition_the_pool(labels: Ints) -> None:
    kept, held_out = hold_out(labels, 40, seed=0)
    assert sorted([*kept, *held_out]) == list(range(200))
    assert len(held_out) == 40
    assert set(labels[kept].tolist()) == set(range(6))
    assert (np.abs(np.bincount(labels[held_out], minlength=6) - 0.2 * np.bincount(labels)) < 2).all()


def test_holding_out_leaves_every_class_in_training(labels: Ints) -> None:
    kept, _ = hold_out(labels, len(labels) - 6, seed=0)
    assert labels[kept].tolist() != [0] * 6
    assert sorted(labels[kept].tolist()) == list(range(6))


def test_too_few_classes() -> None:
    assert class_problems(config(class_fraction=0.1), 28) == []
    assert class_problems(config(class_fraction=0.05), 28) == [
        Problem("class_fraction", "a share that leaves at least 2 classes", "0.05 of 28 classes, which is 1")
    ]


SIZE_MISTAKES = [
    (
        {"train_images": 101},
        (100, 50),
        Problem("train_images", "at most 100, the training images of 10 classes", "101"),
    ),
    (
        {"train_images": 9},
        (100, 50),
        Problem("train_images", "at least 10 images, one for each class, with sampling: stratified", "9"),
    ),
    (
        {"train_fraction": 0.05},
        (100, 50),
        Problem(
            "train_fraction",
            "at least 10 images, one for each class, with sampling: stratified",
            "0.05 of 100, which is 5",
        ),
    ),
    ({"test_images": 51}, (100, 50), Problem("test_images", "at most 50, the size of the test split", "51")),
    (
        {"class_fraction": 0.5},
        (100, 0),
        Problem("class_fraction", "a share that leaves a class with test images", "0.5"),
    ),
    (
        {"test_images": 91},
        (100, None),
        Problem(
            "test_images",
            "a size that leaves at least 10 of 100 images for training, one for each class",
            "91, which leaves 9",
        ),
    ),
    (
        {"test_fraction": 0.95},
        (100, None),
        Problem(
            "test_fraction",
            "a size that leaves at least 10 of 100 images for training, one for each class",
            "0.95, which leaves 5",
        ),
    ),
    (
        {"train_images": 81},
        (100, None),
        Problem("train_images", "at most 80, the training images of 10 classes", "81"),
    ),
]


@pytest.mark.parametrize(("fields", "sizes", "problem"), SIZE_MISTAKES)
def test_impossible_sizes(fields: dict[str, object], sizes: tuple[int, int | None], problem: Problem) -> None:
    assert size_problems(config(**fields), 10, *sizes) == [problem]


def test_all_impossible_sizes_at_once() -> None:
    problems = size_problems(config(train_images=101, test_images=51), 10, 100, 50)
    assert [p.where for p in problems] == ["train_images", "test_images"]


def test_uniform_samples_may_leave_classes_out() -> None:
    assert size_problems(config(train_images=5, sampling="uniform"), 10, 100, 50) == []


class TestHoldingOutGroups:
    LABELS, GROUPS = np.repeat(np.arange(3), [40, 80, 120]), np.repeat(np.arange(60), 4)

    def test_none_is_split_and_each_class_gives_its_share(self) -> None:
        kept, held_out = hold_out(self.LABELS, 48, 0, self.GROUPS)
        assert sorted([*kept, *held_out]) == list(range(240))
        assert not set(self.GROUPS[kept].tolist()) & set(self.GROUPS[held_out].tolist())
        assert np.bincount(self.LABELS[held_out]).tolist() == [8, 16, 24]

    def test_they_are_drawn_by_the_seed(self) -> None:
        drawn = [hold_out(self.LABELS, 48, seed, self.GROUPS)[1].tolist() for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1]
        assert drawn[0] != drawn[2]

    def test_unequal_ones_come_near_to_the_share(self) -> None:
        rng = rng_for(0, "sizes")
        sizes, classes = rng.integers(1, 9, 80), rng.integers(0, 4, 80)
        labels, groups = np.repeat(classes, sizes), np.repeat(np.arange(80), sizes)
        _, held_out = hold_out(labels, round(0.2 * len(labels)), 0, groups)
        shares = np.bincount(labels[held_out], minlength=4) / np.bincount(labels)
        assert (np.abs(shares - 0.2) < 0.07).all()

    def test_of_large_ones_the_smallest_is_held_out_and_one_is_kept(self) -> None:
        labels, groups = np.repeat([0, 0, 1, 1, 2], [9, 6, 5, 8, 7]), np.repeat(np.arange(5), [9, 6, 5, 8, 7])
        kept, held_out = hold_out(labels, 4, 0, groups)
        assert set(groups[held_out].tolist()) == {1, 2}
        assert set(labels[kept].tolist()) == {0, 1, 2}
