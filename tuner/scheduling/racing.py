"""Early stopping of trials: pure functions over the trial and the totals of all trials, one for each rule.

A rule compares scores of the search's objective, of which the larger is better, and says their values. It depends on
the journal alone, so that a resumed search decides as it would have without the interruption. No rule
stops a first point, whose score the user asked for. Rules do not select: only a complete trial can be the best
(`record.selection`), and it is never stopped. No rule takes a look at all trials: their totals are kept as events come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from tuner.experiment.objective import Objective
from tuner.experiment.settings import AshaRacing, FoldRacing, MedianRacing, Racing
from tuner.record.history import TrialRecord
from tuner.record.trial_totals import TrialTotals

Rule = Callable[[Any, TrialRecord, TrialTotals, int], str | None]
"""Function of settings, the trial with a new result, the totals of all trials (it included) and the number of folds of
a complete trial. It returns the reason to stop the trial, or None."""

MAX_NOISE_TRIALS = 100
"""Number of complete trials, the best ones, from which the noise of a fold is estimated at most. With 3 folds that is
198 degrees of freedom: the estimate is known to 5 %, and more trials would only cost time."""


def stop_reason_after_fold(racing: Racing, trial: TrialRecord, totals: TrialTotals, num_folds: int) -> str | None:
    """Decides about `trial` after the fold that it has just finished. Returns the reason to stop it, or None."""
    return _apply_rule(FOLD_RULES, racing, trial, totals, num_folds)


def stop_reason_at_rung(racing: Racing, trial: TrialRecord, totals: TrialTotals, num_folds: int) -> str | None:
    """Decides about `trial` at the rung that it has just reached. Returns the reason to stop it, or None."""
    return _apply_rule(RUNG_RULES, racing, trial, totals, num_folds)


def rungs(racing: Racing, num_steps: int) -> dict[int, float]:
    """Returns the steps of the first fold at which a trial of `num_steps` is scored, each with its share of the fold.

    Trials of different lengths are compared at equal shares.

    >>> rungs(AshaRacing(rule="asha", reduction_factor=3, num_rungs=2), num_steps=90)
    {10: 0.1111111111111111, 30: 0.3333333333333333}
    """
    if not isinstance(racing, AshaRacing):
        return {}
    shares = [racing.reduction_factor**-k for k in range(racing.num_rungs, 0, -1)]
    return {round(share * num_steps): share for share in shares if 0 < round(share * num_steps) < num_steps}


def fold_racing_rule(racing: FoldRacing, trial: TrialRecord, totals: TrialTotals, num_folds: int) -> str | None:
    """Rule `folds`: compares with the best complete trial on the folds that both have, so that fold effects cancel.

    It stops the trial if the mean difference is below −margin · sd of the mean difference of two equally good trials on
    as many folds. The sd is estimated from the better half of the complete trials, as weak ones are noisier, and from
    at most `MAX_NOISE_TRIALS`. With few trials the estimate is uncertain, so that the margin is converted from the
    normal to Student's t distribution.

    With repeats of the folds the rule is the same: the residual is what dealing and training add to a pair's difference
    on the same examples. It is rather too large for whole deals, over which what a fold's examples add cancels.
    """
    complete = totals.ranked
    if len(complete) < racing.min_complete:
        return None
    from scipy.special import ndtr, stdtrit  # slow to import; workers import this module, and decide nothing

    best, k = complete[0], len(trial.folds)
    deficit = fmean(best.fold_scores[:k]) - fmean(trial.fold_scores)
    num_better = max(racing.min_complete, (len(complete) + 1) // 2)
    better_half = complete[: min(num_better, MAX_NOISE_TRIALS)]
    noise_sd, degrees_of_freedom = fold_noise([other.fold_scores for other in better_half])
    margin = -stdtrit(degrees_of_freedom, ndtr(-racing.margin)) * noise_sd * (2 / k) ** 0.5
    if deficit <= max(margin, 0.0) + ROUNDING:
        return None
    return f"after {_folds(k, num_folds)} {deficit:.4f} behind {best.trial_id}, margin {margin:.4f}"


def median_rule(racing: MedianRacing, trial: TrialRecord, totals: TrialTotals, num_folds: int) -> str | None:
    """Median stopping rule (Golovin et al., 2017): stops a trial whose mean over the folds so far is below the median
    of the complete trials' means over as many folds."""
    k = len(trial.folds)
    means = totals.means_over(k)
    if len(means) < racing.min_complete:
        return None
    middle, own = _median(means), fmean(trial.fold_scores)
    if own >= middle - ROUNDING:
        return None
    objective = trial.objective
    own, middle, worse = objective.value_of(own), objective.value_of(middle), _worse(objective)
    return f"after {_folds(k, num_folds)} at {own:.4f}, {worse} the median {middle:.4f} of {len(means)} complete trials"


def asha_rule(racing: AshaRacing, trial: TrialRecord, totals: TrialTotals, num_folds: int) -> str | None:
    """Asynchronous successive halving (Li et al., 2020): continues the best 1/`reduction_factor` of the trials that
    have reached this rung, the trial itself included, and the best one if they are fewer than that factor."""
    rung, objective = trial.rungs[-1], trial.objective
    scores = totals.scores_at_rung(rung.share)
    needed = scores[-max(1, len(scores) // racing.reduction_factor)]
    if objective.score(rung) >= needed:
        return None
    scored = f"after step {rung.step} of fold {rung.fold} at {objective.value(rung):.4f}"
    least = f"{objective.value_of(needed):.4f}"
    return f"{scored}, and the best 1/{racing.reduction_factor} of {len(scores)} trials had {least}"


FOLD_RULES: dict[str, Rule] = {"folds": fold_racing_rule, "median": median_rule}
RUNG_RULES: dict[str, Rule] = {"asha": asha_rule}

ROUNDING = 1e-9
"""Tolerance of comparisons: scores are fractions of counts, so that means which differ by less are equal."""


def fold_noise(scores: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Residual standard deviation of scores in the additive model of trial and fold, and its degrees of freedom.

    `scores` are those of T ≥ 2 trials on F ≥ 2 folds each; the degrees of freedom are (T − 1)(F − 1).

    >>> fold_noise([[0.5, 0.75], [0.75, 0.5]])
    (0.25, 1)
    """
    y_TF = np.asarray(scores)
    residual_TF = y_TF - y_TF.mean(1, keepdims=True) - y_TF.mean(0, keepdims=True) + y_TF.mean()
    degrees_of_freedom = (y_TF.shape[0] - 1) * (y_TF.shape[1] - 1)
    return float(np.sqrt((residual_TF**2).sum() / degrees_of_freedom)), degrees_of_freedom


def _apply_rule(
    rules: dict[str, Rule], racing: Racing, trial: TrialRecord, totals: TrialTotals, num_folds: int
) -> str | None:
    rule = rules.get(racing.rule)
    return None if rule is None or trial.source == "first_point" else rule(racing, trial, totals, num_folds)


def _median(ascending: Sequence[float]) -> float:
    return fmean((ascending[(len(ascending) - 1) // 2], ascending[len(ascending) // 2]))


def _worse(objective: Objective) -> str:
    return "above" if objective.lower_is_better else "below"


def _folds(count: int, of: int) -> str:
    return f"{count} of {of} folds"
