from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from trainables.data.folds import Fold, check_folds, fold_at, num_dealt, stratified_folds
from trainables.data.images import Ints, Mask
from trainables.errors import Problem
from trainables.seeding import rng_for

LABELS = rng_for(1, "labels").permutation(np.repeat(np.arange(4), [3, 10, 20, 34]))


class Examples(NamedTuple):
    labels: Ints
    groups: Ints | None = None
    validated: Mask | None = None


def photographed(sizes: dict[int, list[int]]) -> Examples:
    """Photographs of objects in mixed order; `sizes` has the number of photographs of each object, by class."""
    flat = [(label, size) for label, each in sizes.items() for size in each]
    labels = np.repeat([label for label, _ in flat], [size for _, size in flat])
    groups = np.repeat(np.arange(len(flat)), [size for _, size in flat])
    order = rng_for(0, "objects").permutation(len(labels))
    return Examples(labels[order], groups[order])


def dealt(examples: Examples, deal: int = 0, num_folds: int = 3) -> tuple[Fold, ...]:
    return stratified_folds(examples.labels, num_folds, 0, deal, examples.groups)


def parts(folds: tuple[Fold, ...], of: Ints) -> list[set[int]]:
    return [set(of[fold.validation].tolist()) for fold in folds]


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_folds_partition_the_images_evenly(num_folds: int) -> None:
    folds = stratified_folds(LABELS, num_folds, seed=0)
    assert sorted(np.concatenate([f.validation for f in folds])) == list(range(len(LABELS)))
    assert np.ptp([len(f.validation) for f in folds]) <= 1
    for fold in folds:
        assert sorted([*fold.train, *fold.validation]) == list(range(len(LABELS)))
        assert (np.diff(fold.train) > 0).all()
        assert (np.diff(fold.validation) > 0).all()


def test_folds_have_the_same_share_of_each_class() -> None:
    counts = [np.bincount(LABELS[f.validation], minlength=4) for f in stratified_folds(LABELS, 3, seed=0)]
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.min(counts) >= 1


def test_another_seed_deals_otherwise() -> None:
    first, second = (stratified_folds(LABELS, 3, seed)[0].validation.tolist() for seed in (0, 1))
    assert first != second


def test_the_first_deal_of_repeated_folds_is_that_of_one_deal() -> None:
    for number, fold in enumerate(stratified_folds(LABELS, 3, seed=0), start=1):
        dealt = fold_at(Examples(LABELS), number, num_folds=3, seed=0)
        assert (dealt.validation == fold.validation).all()
        assert (dealt.train == fold.train).all()


def test_every_deal_partitions_the_images_and_is_another_one() -> None:
    deals = [[fold_at(Examples(LABELS), 3 * deal + part, 3, seed=0) for part in (1, 2, 3)] for deal in range(4)]
    for folds in deals:
        assert sorted(np.concatenate([f.validation for f in folds])) == list(range(len(LABELS)))
        counts = [np.bincount(LABELS[f.validation], minlength=4) for f in folds]
        assert (np.ptp(counts, axis=0) <= 1).all()
    assert len({fold.validation.tobytes() for folds in deals for fold in folds}) == 12


def test_a_later_deal_draws_at_its_own_address() -> None:
    shuffled = rng_for(5, "folds", 2).permutation(len(LABELS))
    by_class = shuffled[np.argsort(LABELS[shuffled], kind="stable")]
    assert fold_at(Examples(LABELS), 8, num_folds=3, seed=5).validation.tolist() == sorted(by_class[1::3].tolist())


def test_folds_are_equal_in_another_process() -> None:
    program = (
        "import json, sys; from trainables.data.folds import stratified_folds; import numpy as np;"
        "labels = np.array(json.loads(sys.argv[1]));"
        "print(json.dumps([f.validation.tolist() for f in stratified_folds(labels, 3, 7)]))"
    )
    here = [f.validation.tolist() for f in stratified_folds(LABELS, 3, 7)]
    command = [sys.executable, "-c", program, str(LABELS.tolist())]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(here)


def test_a_class_smaller_than_the_folds_is_named() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2])
    assert check_folds(labels, ("fig", "kiwi", "lime", "plum"), 3) == [
        Problem(
            "num_folds",
            "at least 3 training images of every class, one for each of 3 folds",
            "'fig' with 2, 'lime' with 1, 'plum' with 0",
        )
    ]


def test_fewer_than_two_folds() -> None:
    assert check_folds(LABELS, ("a", "b", "c", "d"), 1) == [Problem("num_folds", "at least 2", "1")]


def test_fewer_images_than_folds() -> None:
    problem = Problem("train_images", "at least 3 images, one for each fold", "2")
    assert check_folds(np.array([0, 1]), ("a", "b"), 3, every_class=False, where="train_images") == [problem]


def test_good_folds_have_no_problems() -> None:
    assert check_folds(LABELS, ("a", "b", "c", "d"), 3) == []
    assert check_folds(np.array([0, 1, 1]), ("a", "b"), 3, every_class=False) == []


def test_a_validation_split_of_its_own_is_the_only_fold() -> None:
    labels, validated = np.array([0, 1, 0, 1, 0]), np.array([False, True, False, False, True])
    examples = Examples(labels, validated=validated)
    for number in (1, 2):
        fold = fold_at(examples, number, num_folds=1, seed=3)
        assert (fold.train.tolist(), fold.validation.tolist()) == ([0, 2, 3], [1, 4])
    assert num_dealt(examples) == 3
    assert num_dealt(Examples(labels)) == 5


class TestGroups:
    ROW = photographed({0: [4] * 6, 1: [2] * 9, 2: [5] * 3})

    def test_none_is_split_and_every_image_is_validated_once(self) -> None:
        assert self.ROW.groups is not None
        folds = dealt(self.ROW)
        assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(len(self.ROW.labels)))
        for fold in folds:
            train, validation = (set(self.ROW.groups[part].tolist()) for part in (fold.train, fold.validation))
            assert not train & validation

    def test_classes_are_as_even_as_equal_groups_allow(self) -> None:
        counts = [np.bincount(self.ROW.labels[fold.validation]).tolist() for fold in dealt(self.ROW)]
        assert counts == [[8, 6, 5]] * 3

    def test_a_group_of_several_classes_stays_whole(self) -> None:
        labels, groups = np.array([0, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
        assert sorted(map(sorted, parts(dealt(Examples(labels, groups), num_folds=2), labels))) == [[0, 1], [0, 1]]
        assert sum(map(len, parts(dealt(Examples(labels, groups), num_folds=2), groups))) == 4

    def test_groups_of_one_image_are_dealt_as_images(self) -> None:
        counts = [
            np.bincount(LABELS[fold.validation], minlength=4)
            for fold in dealt(Examples(LABELS, np.arange(len(LABELS))))
        ]
        assert (np.ptp(counts, axis=0) <= 1).all()

    @pytest.mark.parametrize("sizes", [{0: [4] * 6, 1: [2] * 9}, {0: [5, 7, 9, 11, 13, 15], 1: [4, 6, 8, 10, 12, 14]}])
    def test_every_deal_is_another_one_whatever_the_sizes(self, sizes: dict[int, list[int]]) -> None:
        examples = photographed(sizes)
        assert examples.groups is not None
        deals = {frozenset(map(frozenset, parts(dealt(examples, deal), examples.groups))) for deal in range(4)}
        assert len(deals) == 4

    def test_another_seed_deals_otherwise_and_the_same_again(self) -> None:
        assert self.ROW.groups is not None
        first, again, other = (
            stratified_folds(self.ROW.labels, 3, seed, 0, self.ROW.groups)[0].validation.tolist() for seed in (0, 0, 1)
        )
        assert first == again
        assert first != other

    def test_fold_at_keeps_them_whole_in_every_deal(self) -> None:
        assert self.ROW.groups is not None
        for number in range(1, 7):
            fold = fold_at(self.ROW, number, num_folds=3, seed=0)
            train, validation = (set(self.ROW.groups[part].tolist()) for part in (fold.train, fold.validation))
            assert not train & validation
            assert len(train) + len(validation) == 18

    def test_classes_smaller_than_the_folds_are_dealt_too(self) -> None:
        """As of a uniform sample, in which every class may be."""
        folds = dealt(Examples(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 4])))
        assert all(len(fold.validation) for fold in folds)

    def test_too_few_are_refused(self) -> None:
        labels, groups = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
        names = ("fig", "kiwi")
        expected = "at least 3 groups, one for each fold"
        assert check_folds(labels, names, 3, groups=groups) == [Problem("group_by", expected, "2")]
        expected = "every class in at least 2 groups of training images, to validate on one that is not trained on"
        problem = Problem("group_by", expected, "'fig' in 1")
        assert check_folds(labels, names, 3, groups=np.array([0, 0, 0, 1, 2, 3])) == [problem]
        assert check_folds(labels, names, 3, groups=np.array([0, 0, 1, 1, 2, 3])) == []
        assert check_folds(labels, names, 3, every_class=False, groups=np.array([0, 0, 0, 1, 2, 3])) == []
