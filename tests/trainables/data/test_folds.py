from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from trainables.data.folds import check_folds, fold_at, stratified_folds
from trainables.errors import Problem
from trainables.seeding import rng_for

LABELS = rng_for(1, "labels").permutation(np.repeat(np.arange(4), [3, 10, 20, 34]))


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
        dealt = fold_at(LABELS, number, num_folds=3, seed=0)
        assert (dealt.validation == fold.validation).all()
        assert (dealt.train == fold.train).all()


def test_every_deal_partitions_the_images_and_is_another_one() -> None:
    deals = [[fold_at(LABELS, 3 * deal + part, 3, seed=0) for part in (1, 2, 3)] for deal in range(4)]
    for folds in deals:
        assert sorted(np.concatenate([f.validation for f in folds])) == list(range(len(LABELS)))
        counts = [np.bincount(LABELS[f.validation], minlength=4) for f in folds]
        assert (np.ptp(counts, axis=0) <= 1).all()
    assert len({fold.validation.tobytes() for folds in deals for fold in folds}) == 12


def test_a_later_deal_draws_at_its_own_address() -> None:
    shuffled = rng_for(5, "folds", 2).permutation(len(LABELS))
    by_class = shuffled[np.argsort(LABELS[shuffled], kind="stable")]
    assert fold_at(LABELS, 8, num_folds=3, seed=5).validation.tolist() == sorted(by_class[1::3].tolist())


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
