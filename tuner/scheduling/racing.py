"""Early stopping of trials: pure decisions over records, one function a rule.

What a rule sees is the journal alone, so that a search that goes on decides as it would have. No rule stops a first
point, which is there to be known, nor makes a winner: only a trial that trained every fold can be one (`selection`),
and a complete trial is never stopped, so that no two trials stop each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from tuner.experiment.settings import AshaRacing, FoldRacing, MedianRacing, Racing
from tuner.record.history import TrialRecord

Rule = Callable[[Any, TrialRecord, Sequence[TrialRecord], int], str | None]
"""Settings, the trial with a new result, all trials with it, folds of a whole trial → the reason to stop, or None."""


def why_stop(racing: Racing, trial: TrialRecord, trials: Iterable[TrialRecord], num_folds: int) -> str | None:
    """Decides whether `trial` is stopped after the fold that it has just finished: the reason, or None to go on."""
    return _ask(AFTER_A_FOLD, racing, trial, trials, num_folds)


def why_stop_at_rung(racing: Racing, trial: TrialRecord, trials: Iterable[TrialRecord], num_folds: int) -> str | None:
    """Decides the same in the middle of a fold, at the rung that the trial has just reached."""
    return _ask(AT_A_RUNG, racing, trial, trials, num_folds)


def rungs(racing: Racing, num_steps: int) -> dict[int, float]:
    """The steps of the first fold at which a trial of `num_steps` is scored, each with the share of the fold that it
    nominally is. Trials of different lengths meet at equal shares."""
    if not isinstance(racing, AshaRacing):
        return {}
    shares = [racing.reduction_factor**-k for k in range(racing.num_rungs, 0, -1)]
    return {round(share * num_steps): share for share in shares if 0 < round(share * num_steps) < num_steps}


def behind_the_best(
    racing: FoldRacing, trial: TrialRecord, trials: Sequence[TrialRecord], num_folds: int
) -> str | None:
    """Compares with the best complete trial on the folds that both have, which takes out how hard each fold is.

    It stops where the mean difference is below −margin · sd of the mean difference of two equally good trials on as
    many folds. That sd comes from the better half of the complete trials: weak ones are noisier, and the question is
    whether this one is as good as the best. Few trials say little about it, and so the margin is widened from the
    normal to Student's t distribution.
    """
    complete = sorted((t for t in trials if t.state == "complete"), key=lambda t: (-(t.val_top1 or 0.0), t.number))
    if len(complete) < racing.min_complete:
        return None
    from scipy.special import ndtr, stdtrit  # slow to import; workers import this module, and decide nothing

    best, k = complete[0], len(trial.folds)
    behind = fmean(best.fold_scores[:k]) - fmean(trial.fold_scores)
    better_half = complete[: max(racing.min_complete, (len(complete) + 1) // 2)]
    noise_sd, freedom = fold_noise([other.fold_scores for other in better_half])
    margin = -stdtrit(freedom, ndtr(-racing.margin)) * noise_sd * (2 / k) ** 0.5
    if behind <= max(margin, 0.0) + ROUNDING:
        return None
    return f"after {_folds(k, num_folds)} {behind:.4f} behind {best.trial_id}, margin {margin:.4f}"


def below_the_median(
    racing: MedianRacing, trial: TrialRecord, trials: Sequence[TrialRecord], num_folds: int
) -> str | None:
    """Compares the mean over the folds so far with what the complete trials had after as many."""
    k = len(trial.folds)
    means = [fmean(other.fold_scores[:k]) for other in trials if other.state == "complete"]
    if len(means) < racing.min_complete:
        return None
    middle, own = median(means), fmean(trial.fold_scores)
    if own >= middle - ROUNDING:
        return None
    return f"after {_folds(k, num_folds)} at {own:.4f}, below the median {middle:.4f} of {len(means)} complete trials"


def not_among_the_best(
    racing: AshaRacing, trial: TrialRecord, trials: Sequence[TrialRecord], num_folds: int
) -> str | None:
    """Successive halving: goes on if among the best 1/`reduction_factor` of those that have come to this rung, itself
    included. Of fewer than that factor, the best goes on."""
    rung = trial.rungs[-1]
    scores = sorted((r.val_top1 for other in trials for r in other.rungs if r.share == rung.share), reverse=True)
    needed = scores[max(1, len(scores) // racing.reduction_factor) - 1]
    if rung.val_top1 >= needed:
        return None
    scored = f"after step {rung.step} of fold {rung.fold} at {rung.val_top1:.4f}"
    return f"{scored}, and the best 1/{racing.reduction_factor} of {len(scores)} trials had {needed:.4f}"


AFTER_A_FOLD: dict[str, Rule] = {"folds": behind_the_best, "median": below_the_median}
AT_A_RUNG: dict[str, Rule] = {"asha": not_among_the_best}

ROUNDING = 1e-9
"""Scores are counts over counts: means that differ by less are equal."""


def fold_noise(scores: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Standard deviation of a fold's score, without what the trial and the fold explain, and its degrees of freedom.

    Of n ≥ 2 trials on F ≥ 2 folds each: residuals of the additive model, (n − 1)(F − 1) of which are free.
    """
    y_TF = np.asarray(scores)
    residual_TF = y_TF - y_TF.mean(1, keepdims=True) - y_TF.mean(0, keepdims=True) + y_TF.mean()
    freedom = (y_TF.shape[0] - 1) * (y_TF.shape[1] - 1)
    return float(np.sqrt((residual_TF**2).sum() / freedom)), freedom


def _ask(
    rules: dict[str, Rule], racing: Racing, trial: TrialRecord, trials: Iterable[TrialRecord], num_folds: int
) -> str | None:
    rule = rules.get(racing.rule)
    return None if rule is None or trial.source == "first_point" else rule(racing, trial, list(trials), num_folds)


def _folds(count: int, of: int) -> str:
    return f"{count} of {of} folds"
