"""Baselines in the result of a search: scores, and how the best trial stands to them, as data and as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from trainables.frozen import Frozen
from tuner.experiment.objective import TOP1, Objective, ObjectiveName
from tuner.record.baselines import BaselineState
from tuner.record.differences import Difference, spell_difference
from tuner.record.history import SearchHistory
from tuner.record.selection import mean_and_sd
from tuner.record.standings import Standing, standings_of


class BaselineResult(Frozen):
    """A baseline of a search, and the best trial's differences to it.

    Scores on validation are values of the `objective`, those on the test split are top-1.
    """

    label: str
    """Its name in messages: `linear probe`."""
    state: BaselineState
    reason: str = ""
    """Why it has no score, if it failed."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Every leaf of its configuration, by dotted path."""
    val_top1: float | None = None
    """Mean validation top-1 over the folds of the trials; None unless it is complete."""
    fold_scores: list[float] = Field(default_factory=list)
    """Value of the objective in each fold."""
    objective: ObjectiveName = "top1"
    """Metric that the search optimises."""
    val_score: float | None = None
    """Mean of the objective over the folds of the trials; None unless it is complete."""
    val_metrics: dict[str, float] = Field(default_factory=dict)
    """Mean of every metric over the folds, by name."""
    test_scores: dict[str, float] = Field(default_factory=dict)
    """Test score of each retraining, by its seed; one alone where the training is the same for every seed."""
    test_top1_mean: float | None = None
    test_top1_sd: float | None = None
    """Sample standard deviation; None of fewer than two retrainings."""
    difference_val: Difference | None = None
    """Best trial − baseline on validation, with the interval of the corrected resampled t test over the folds. It is
    optimistic, as the best of many trials was chosen by this score."""
    difference_test: Difference | None = None
    """Best trial − baseline on the test split, with Student's interval over the seeds of the retrainings."""


def baseline_results(history: SearchHistory, num_parts: int) -> dict[str, BaselineResult]:
    """Collects the result of each baseline by name; `num_parts` is `search.folds`."""
    return {standing.baseline.name: _result_of(standing) for standing in standings_of(history, num_parts)}


def _result_of(standing: Standing) -> BaselineResult:
    baseline, tests = standing.baseline, standing.test_scores
    mean, sd = mean_and_sd(tests.values()) if tests else (None, None)
    return BaselineResult(
        label=baseline.label,
        state=baseline.state,
        reason=baseline.reason,
        config=baseline.config,
        objective=baseline.objective.name,
        val_score=baseline.value,
        fold_scores=baseline.fold_values,
        val_top1=baseline.val_top1,
        val_metrics=baseline.metrics,
        test_scores={str(seed): score for seed, score in tests.items()},
        test_top1_mean=mean,
        test_top1_sd=sd,
        difference_val=standing.val,
        difference_test=standing.test,
    )


def validation_lines(baselines: Mapping[str, BaselineResult]) -> Iterator[str]:
    """Yields a line a baseline: its validation score, and how much better the best trial is."""
    for baseline in baselines.values():
        if baseline.val_score is None:
            text = f"no score: {baseline.reason}" if baseline.reason else "not scored on every fold yet"
        else:
            objective = Objective(baseline.objective)
            text = f"{objective.label} {baseline.val_score:.4f}{_standing(baseline.difference_val, 'fold', objective)}"
        yield f"  {baseline.label:<14} {text}"


def retraining_lines(baselines: Mapping[str, BaselineResult]) -> Iterator[str]:
    """Yields a line for each baseline that was retrained: its test score, and how much better the best trial is."""
    for baseline in baselines.values():
        if baseline.test_top1_mean is not None:
            spread = "" if baseline.test_top1_sd is None else f" ± {baseline.test_top1_sd:.4f}"
            score = f"{baseline.test_top1_mean:.4f}{spread}"
            yield f"    {baseline.label:<12} top-1 {score}{_standing(baseline.difference_test, 'seed')}"


def _standing(difference: Difference | None, noun: str, objective: Objective = TOP1) -> str:
    return "" if difference is None else f": best is {spell_difference(difference, noun, objective)}"
