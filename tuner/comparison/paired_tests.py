"""How sure one can be that one method is better than another: tests paired over training seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import stats

MAX_EXACT_PAIRS = 16
"""Up to so many pairs all 2ⁿ sign flips are looked at; of more, as many are drawn."""


@dataclass(frozen=True)
class PairedTest:
    """A method against the reference, over the `n` seeds that both have.

    `p_t` is the two-sided p value of the paired t test (None without spread, or with fewer than two pairs);
    `p_permutation` that of the sign-flip test, exact up to `MAX_EXACT_PAIRS` pairs: never below 2/2ⁿ.
    """

    n: int
    difference: float
    p_t: float | None
    p_permutation: float | None


def paired_test(scores: Mapping[int, float], reference: Mapping[int, float]) -> PairedTest | None:
    """Compares by seed; None where no seed has both."""
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
        return None  # all differences are equal, but for rounding
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
