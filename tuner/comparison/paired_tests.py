"""Significance tests of a method against another, paired over training seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import stats

MAX_EXACT_PAIRS = 16
"""Number of pairs up to which all 2ⁿ sign flips are evaluated; of more pairs, 2 to this power are drawn."""


@dataclass(frozen=True)
class PairedTest:
    """Paired test of a method against the reference, over the `n` seeds that both have.

    `difference` is the mean of score − reference, in the scores' unit. `p_t` is the two-sided p value of the paired t
    test (None if all differences are equal, or with fewer than two pairs); `p_permutation` that of the sign-flip
    permutation test, exact up to `MAX_EXACT_PAIRS` pairs and never below 2/2ⁿ (None with fewer than two pairs).
    """

    n: int
    difference: float
    p_t: float | None
    p_permutation: float | None


def paired_test(scores: Mapping[int, float], reference: Mapping[int, float]) -> PairedTest | None:
    """Tests scores against those of the reference, both by seed. Returns None if they have no seed in common.

    >>> test = paired_test({0: 0.75, 1: 0.875, 2: 0.75}, {0: 0.5, 1: 0.5, 2: 0.625})
    >>> test.n, test.difference, round(test.p_t, 3), test.p_permutation
    (3, 0.25, 0.074, 0.25)
    """
    shared = sorted(scores.keys() & reference.keys())
    if not shared:
        return None
    differences = np.array([scores[seed] - reference[seed] for seed in shared])
    difference = fmean(differences.tolist())
    if len(shared) < 2:
        return PairedTest(1, difference, None, None)
    return PairedTest(len(shared), difference, _t_test(differences), _sign_flip_test(differences))


def _t_test(differences: np.ndarray) -> float | None:
    spread = float(differences.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(differences).max()):
        return None  # all differences are equal, up to rounding
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _sign_flip_test(differences: np.ndarray) -> float:
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**MAX_EXACT_PAIRS,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)
