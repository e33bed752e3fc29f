"""Scope of a search within `search.minutes`: how much of its plan fits. Pure functions over a plan and timed steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tuner.experiment.checks import Plan
from tuner.messages.wording import counted
from tuner.scheduling.minutes import Forecast, TimeBudget

TRAINING_LENGTHS = (0.75, 0.5, 1 / 3)
"""Shares of its steps that a training may have where a trial of whole ones does not fit: a third or a half of them is
still worth more than the probe alone (docs/results/2026-11-30-quality.md)."""


class Scope(NamedTuple):
    """What a search does within its minutes: a plan, its budget and forecast, and what was left out for their sake."""

    plan: Plan
    budget: TimeBudget
    forecast: Forecast
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        left_out = f"; left out for want of time: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.forecast}{left_out}"


def scope_of(
    plan: Plan,
    budget_of: Callable[[Plan], TimeBudget],
    passed_s: float,
    training_lengths: Sequence[float] = TRAINING_LENGTHS,
) -> Scope:
    """Fits a plan into its minutes: as much as leaves the trials their share, else as much as fits.

    Retrainings of plain fine-tuning are left out first, then this baseline itself, then retrainings of the winner that
    do not run beside its first one. Where then not even one trial fits, trainings are shortened, to shares of their
    steps in `training_lengths`; at last trials are left out, if the linear probe is a baseline and can be the result.
    Where not even that fits, the scope is the last with a trial; its forecast says so.
    """
    whole = [_scope(*each, budget_of, passed_s) for each in _lesser(plan, budget_of(plan).places)]
    for scope in whole:
        if scope.forecast.has_time_for_trials:
            return scope
    least = whole[-1]
    shorter = [_scope(*each, budget_of, passed_s) for each in _shorter(least.plan, least.left_out, training_lengths)]
    for scope in (*whole, *shorter):
        if scope.forecast.fits:
            return scope
    if "linear_probe" in plan.space.search.baselines:
        budget = replace(least.budget, has_trials=False, num_retrainings=0)
        forecast = budget.forecast(passed_s)
        if forecast.fits:
            return Scope(least.plan, budget, forecast, (*least.left_out, "trials"))
    return (least, *shorter)[-1]


def _scope(plan: Plan, left_out: tuple[str, ...], budget_of: Callable[[Plan], TimeBudget], passed_s: float) -> Scope:
    budget = budget_of(plan)
    return Scope(plan, budget, budget.forecast(passed_s), left_out)


def _shorter(plan: Plan, left_out: tuple[str, ...], lengths: Sequence[float]) -> Iterator[tuple[Plan, tuple[str, ...]]]:
    """Yields the plan with shorter and shorter trainings, unless it is of such, or their length is searched."""
    for length in lengths:
        if (shorter := plan.shortened(length)).num_steps < plan.num_steps:
            less = f"{plan.num_steps - shorter.num_steps} of {plan.num_steps} steps of a training"
            yield shorter, (*left_out, less)


def _lesser(plan: Plan, places: int) -> Iterator[tuple[Plan, tuple[str, ...]]]:
    """Yields the plan, and plans with less and less, each with what it leaves out."""
    left_out: tuple[str, ...] = ()
    yield plan, left_out
    has_fine_tuning = "fine_tuning" in plan.space.search.baselines
    if has_fine_tuning and plan.space.retrain.baselines and plan.space.retrain.seeds:
        plan = _changed(plan, "retrain", baselines=False)
        left_out = ("test scores of plain fine-tuning",)
        yield plan, left_out
    if has_fine_tuning:
        others = tuple(name for name in plan.space.search.baselines if name != "fine_tuning")
        plan = _changed(plan, "search", baselines=others)
        left_out = ("plain fine-tuning as a baseline",)
        yield plan, left_out
    if (seeds := plan.space.retrain.seeds) > places:  # as many as places take no longer than one
        plan = _changed(plan, "retrain", seeds=places)
        yield plan, (*left_out, f"{counted(seeds - places, 'further retraining')} of the best")


def _changed(plan: Plan, section: str, **settings: Any) -> Plan:
    changed = getattr(plan.space, section).model_copy(update=settings)
    return replace(plan, space=replace(plan.space, **{section: changed}))
