"""Differences of scores with their confidence intervals, paired over folds, over training seeds and over examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, stdev

from trainables.frozen import Frozen
from tuner.experiment.objective import TOP1, Objective
from tuner.messages.wording import counted

CONFIDENCE = 0.95
"""Coverage of the intervals."""


class Difference(Frozen):
    """Mean difference of two paired scores, in the scores' unit, with its 95 % confidence interval.

    There is no interval of fewer than two pairs, nor where all pairs differ equally: their spread says nothing then.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    num_pairs: int


def fold_difference(scores: Sequence[float], reference: Sequence[float], num_parts: int) -> Difference:
    """Returns scores − reference, paired over the folds of a cross-validation in `num_parts` parts, dealt once or more.

    Trainings of a cross-validation share most of their examples, so that their scores are no independent draws. The
    interval is that of the corrected resampled t test: the variance of the mean is σ² (1/n + n_test/n_train) instead
    of σ²/n (Nadeau & Bengio, 2003, https://doi.org/10.1023/A:1024068626366; of repeated cross-validation, Bouckaert &
    Frank, 2004), where n_test/n_train is 1/(`num_parts` − 1). It does not correct for a choice: the validation score
    of the best of many trials is optimistic.

    >>> fold_difference([0.875, 0.75, 0.875], [0.75, 0.75, 0.75], num_parts=3).mean
    0.08333333333333333
    """
    differences = [score - other for score, other in zip(scores, reference, strict=True)]
    return _with_interval(differences, 1 / len(differences) + (1 / (num_parts - 1) if num_parts > 1 else 0.0))


def seed_difference(scores: Mapping[int, float], reference: Mapping[int, float] | float) -> Difference | None:
    """Returns scores − reference, paired over the seeds that both have. Returns None if there is no such seed.

    A number as reference is a score that is the same for every seed. The interval is Student's t. It is about the draws
    of the trainings: all are scored on the same test images, whose choice it leaves out.

    >>> seed_difference({0: 0.75, 1: 0.875}, 0.5).mean
    0.3125
    """
    if isinstance(reference, Mapping):
        differences = [scores[seed] - reference[seed] for seed in sorted(scores.keys() & reference.keys())]
    else:
        differences = [score - reference for _, score in sorted(scores.items())]
    return _with_interval(differences, 1 / len(differences)) if differences else None


def example_difference(right: Sequence[bool], reference: Sequence[bool]) -> Difference:
    """Returns the accuracy of one network − that of another, paired over the examples that both have classified.

    `right` says of each example whether the network is right. The interval is that of Agresti & Min (2005,
    https://doi.org/10.1002/sim.1781): Wald's for matched pairs with half an example more in each cell of the table of
    pairs, which covers well also where the two differ on few examples. It counts the examples, not how trainings vary.

    >>> difference = example_difference([True, True, True, False], [True, False, False, False])
    >>> difference.mean, round(difference.low, 3), round(difference.high, 3)
    (0.5, -0.166, 0.832)
    """
    pairs = list(zip(right, reference, strict=True))
    only_this = sum(one and not other for one, other in pairs)
    only_other = sum(other and not one for one, other in pairs)
    num_pairs, more = len(pairs), only_this - only_other
    centre = more / (num_pairs + 2)
    variance = (only_this + only_other + 1 - more**2 / (num_pairs + 2)) / (num_pairs + 2) ** 2
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Difference(mean=more / num_pairs, low=low, high=high, num_pairs=num_pairs)


def _with_interval(differences: Sequence[float], variance_factor: float) -> Difference:
    """Returns the mean of `differences`, with the interval for a mean whose variance is s² × `variance_factor`."""
    from scipy.special import stdtrit  # slow to import, and not needed to read a journal

    num_pairs, mean = len(differences), fmean(differences)
    spread = stdev(differences) if num_pairs > 1 else 0.0
    if spread <= 1e-12 * max(map(abs, differences)):  # equal, up to rounding
        return Difference(mean=mean, num_pairs=num_pairs)
    half = float(stdtrit(num_pairs - 1, (1 + CONFIDENCE) / 2)) * spread * math.sqrt(variance_factor)
    return Difference(mean=mean, low=mean - half, high=mean + half, num_pairs=num_pairs)


def spell_difference(difference: Difference, noun: str, objective: Objective = TOP1) -> str:
    """Formats a difference of `objective`, a share in points of a hundred and a loss as it is; `noun` is what is
    paired.

    >>> spell_difference(Difference(mean=0.0267, low=-0.005, high=0.0585, num_pairs=3), "fold")
    '+2.7 points (−0.5 to +5.9, 3 folds)'
    >>> spell_difference(Difference(mean=-0.0267, num_pairs=1), "fold", Objective("log_loss"))
    '−0.0267 (1 fold, no interval)'
    """
    pairs = counted(difference.num_pairs, noun)
    signed, unit = (_points, " points") if objective.is_share else (_as_it_is, "")
    if difference.low is None or difference.high is None:
        why = "no interval" if difference.num_pairs == 1 else "no interval: the same on each"
        return f"{signed(difference.mean)}{unit} ({pairs}, {why})"
    return f"{signed(difference.mean)}{unit} ({signed(difference.low)} to {signed(difference.high)}, {pairs})"


def _points(share: float) -> str:
    return _signed(100 * share, digits=1)


def _as_it_is(value: float) -> str:
    return _signed(value, digits=4)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
