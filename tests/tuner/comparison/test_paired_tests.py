"""Against scipy, and against every sign flip written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from tuner.comparison.paired_tests import PairedTest, paired_test


def scores(count: int, seed: int, shift: float = 0.0) -> dict[int, float]:
    values = np.random.default_rng(seed).normal(0.5 + shift, 0.05, count)
    return dict(enumerate(values.tolist()))


@pytest.mark.parametrize("count", [2, 3, 5, 9])
@pytest.mark.parametrize("shift", [0.0, 0.05, -0.2])
def test_agrees_with_scipy_and_with_all_flips(count: int, shift: float) -> None:
    ours, reference = scores(count, 1, shift), scores(count, 2)
    test = paired_test(ours, reference)
    assert test is not None
    differences = np.array(list(ours.values())) - np.array(list(reference.values()))
    assert test.n == count
    assert test.difference == pytest.approx(differences.mean())
    assert test.p_t == pytest.approx(stats.ttest_rel(list(ours.values()), list(reference.values())).pvalue)
    flipped = [abs(np.mean(differences * signs)) for signs in itertools.product([-1, 1], repeat=count)]
    as_far = np.mean([value >= abs(differences.mean()) - 1e-12 for value in flipped])
    assert test.p_permutation == pytest.approx(as_far)


def test_three_seeds_cannot_give_less_than_a_quarter() -> None:
    test = paired_test({0: 0.9, 1: 0.8, 2: 0.95}, {0: 0.1, 1: 0.2, 2: 0.3})
    assert test is not None
    assert test.p_permutation == 0.25
    assert test.p_t is not None
    assert test.p_t < 0.05


def test_many_seeds_are_drawn_the_same_way_every_time() -> None:
    ours, reference = scores(30, 1, 0.02), scores(30, 2)
    assert paired_test(ours, reference) == paired_test(ours, reference)


def test_only_seeds_that_both_have() -> None:
    test = paired_test({0: 0.5, 1: 0.75, 3: 0.0}, {0: 0.25, 1: 0.25, 2: 1.0})
    assert test is not None
    assert (test.n, test.difference) == (2, 0.375)


def test_one_pair_has_no_p_value() -> None:
    assert paired_test({0: 0.75}, {0: 0.5}) == PairedTest(1, 0.25, None, None)


def test_no_pair_is_no_test() -> None:
    assert paired_test({0: 0.5}, {1: 0.5}) is None
    assert paired_test({}, {1: 0.5}) is None


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_without_spread_there_is_no_t(shift: float) -> None:
    reference = {seed: 0.1 * seed for seed in range(3)}
    test = paired_test({seed: score + shift for seed, score in reference.items()}, reference)
    assert test is not None
    assert test.p_t is None
    assert test.p_permutation == (0.25 if shift else 1.0)
