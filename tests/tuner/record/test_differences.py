"""Differences with intervals: Student's against SciPy's, the corrected ones by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tuner.record.differences import (
    Difference,
    example_difference,
    fold_difference,
    seed_difference,
    spell_difference,
)


def test_over_seeds_it_is_the_paired_t_interval() -> None:
    scores, reference = {0: 0.91, 1: 0.94, 2: 0.90, 3: 0.95}, {3: 0.92, 2: 0.91, 1: 0.90, 0: 0.89}
    found = seed_difference(scores, reference)
    expected = stats.ttest_rel([0.91, 0.94, 0.90, 0.95], [0.89, 0.90, 0.91, 0.92]).confidence_interval(0.95)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, expected.low, expected.high))
    assert found.num_pairs == 4


def test_only_seeds_that_both_have_are_paired() -> None:
    found = seed_difference({0: 0.5, 1: 0.75, 2: 1.0}, {2: 0.5, 1: 0.5, 7: 0.0})
    assert found is not None
    assert (found.mean, found.num_pairs) == (0.375, 2)
    assert seed_difference({0: 0.5}, {1: 0.5}) is None
    assert seed_difference({}, 0.5) is None


def test_a_reference_that_is_the_same_for_every_seed_is_a_constant() -> None:
    scores = {0: 0.91, 1: 0.94, 2: 0.90}
    expected = stats.ttest_rel(list(scores.values()), [0.9, 0.9, 0.9]).confidence_interval(0.95)
    found = seed_difference(scores, 0.9)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_over_folds_the_variance_has_the_term_of_nadeau_and_bengio() -> None:
    """By hand: 0.02, 0.04, 0.06 have s = 0.02; of 3 folds the factor is 1/3 + 1/2; t(0.975, 2) = 4.302653."""
    found = fold_difference([0.92, 0.94, 0.96], [0.90, 0.90, 0.90], num_parts=3)
    half = 4.302653 * 0.02 * math.sqrt(1 / 3 + 1 / 2)
    assert (found.mean, found.low, found.high) == pytest.approx((0.04, 0.04 - half, 0.04 + half), rel=1e-6)
    assert found.num_pairs == 3


def test_more_deals_narrow_it_but_not_without_limit() -> None:
    differences = np.tile([0.02, 0.04, 0.06], 200)
    once = fold_difference(differences[:3], np.zeros(3), num_parts=3)
    often = fold_difference(differences, np.zeros(600), num_parts=3)
    assert once.high is not None
    assert often.high is not None
    assert often.high - often.mean < once.high - once.mean
    limit = 1.96 * np.std(differences, ddof=1) * math.sqrt(1 / 2)  # n_test / n_train stays
    assert often.high - often.mean == pytest.approx(limit, rel=0.01)


def test_it_covers_what_the_plain_interval_does_not() -> None:
    """Of differences with the correlation n_test/(n_test + n_train) = 1/3, which the correction assumes of 3 folds."""
    rng, correlation, num_draws = np.random.default_rng(0), 1 / 3, 1000
    common, own = rng.normal(size=(num_draws, 1)), rng.normal(size=(num_draws, 3))
    draws = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
    intervals = [fold_difference(draw, np.zeros(3), num_parts=3) for draw in draws]
    covered = [found.low is not None and found.high is not None and found.low <= 0 <= found.high for found in intervals]
    plain = np.abs(stats.ttest_1samp(draws, 0.0, axis=1).statistic) <= stats.t.ppf(0.975, 2)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
    assert plain.mean() < 0.90


@pytest.mark.parametrize(
    "found",
    [
        seed_difference({0: 0.75}, 0.5),
        seed_difference({0: 0.7, 1: 0.8}, {0: 0.6, 1: 0.7}),
        fold_difference([0.9, 0.9, 0.9], [0.9, 0.9, 0.9], num_parts=3),
    ],
    ids=["one pair", "equal up to rounding", "no difference"],
)
def test_without_a_spread_there_is_no_interval(found: Difference) -> None:
    assert (found.low, found.high) == (None, None)


def test_folds_must_pair() -> None:
    with pytest.raises(ValueError, match="zip"):
        fold_difference([0.9], [0.9, 0.8], num_parts=2)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference(mean=0.0267, low=-0.005, high=0.0585, num_pairs=3), "+2.7 points (−0.5 to +5.9, 3 folds)"),
        (Difference(mean=-0.0004, low=-0.01, high=0.0092, num_pairs=6), "0.0 points (−1.0 to +0.9, 6 folds)"),
        (Difference(mean=0.1, num_pairs=1), "+10.0 points (1 fold, no interval)"),
        (Difference(mean=0.0, num_pairs=3), "0.0 points (3 folds, no interval: the same on each)"),
    ],
)
def test_differences_are_in_points_of_a_hundred(difference: Difference, words: str) -> None:
    assert spell_difference(difference, "fold") == words


def test_over_examples_the_difference_is_of_those_on_which_one_alone_is_right() -> None:
    right, reference = [True] * 7 + [False] * 3, [True] * 4 + [False] * 4 + [True] * 2
    found = example_difference(right, reference)
    assert (found.mean, found.num_pairs) == (pytest.approx(0.1), 10)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    other = example_difference(reference, right)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_equal_networks_have_an_interval_that_narrows_with_the_examples() -> None:
    few, many = (example_difference([True] * count, [True] * count) for count in (10, 1000))
    assert few.mean == many.mean == 0
    assert few.high is not None
    assert many.high is not None
    assert few.high > 10 * many.high > 0


@pytest.mark.parametrize(("num", "agreement"), [(40, 0.9), (100, 0.95), (300, 0.7)])
def test_over_examples_the_interval_covers_the_truth(num: int, agreement: float) -> None:
    """Of pairs that differ on a share of the examples, twice as often in favour of the first."""
    rng = np.random.default_rng(0)
    truth, covered, trials = (1 - agreement) / 3, 0, 1500
    for draw in rng.random((trials, num)):
        only_this, only_other = draw > agreement + truth, (draw > agreement) & (draw <= agreement + truth)
        found = example_difference((~only_other).tolist(), (~only_this).tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.93 < covered / trials < 0.99
