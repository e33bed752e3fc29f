"""What is left out of a search, or shortened, where its minutes are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.tuner.scheduling.test_minutes import Clock
from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from tuner.experiment.checks import Plan, check_experiment
from tuner.experiment.timing import StepTimes
from tuner.record.journal import SearchJournal
from tuner.scheduling.minutes import TimeBudget
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.scope import TRAINING_LENGTHS, Scope, scope_of


def scope_at(
    minutes: float, step_s: float | None = None, training_lengths: Sequence[float] = TRAINING_LENGTHS, **changes: Any
) -> Scope:
    """After 5 s, on two places: folds of 10 s, or of so many seconds a step, retrainings of half as much again, and
    10 s of the end."""
    settings = {"search__minutes": minutes, "search__trials": None, "search__repeats": 1, "search__folds": 3}
    baselines = {"search__baselines": ["linear_probe", "fine_tuning"], "retrain__seeds": 3}
    plan = check_experiment(space_of(**{**settings, **baselines, **changes}))

    def budget_of_plan(plan: Plan) -> TimeBudget:
        made = TimeBudget.of(plan, StepTimes(1.0, 1.0, 0.0), places=2, started_s=0.0)
        fold_s = 10.0 if step_s is None else plan.num_steps * step_s
        return replace(made, fold_s=fold_s, retraining_s=1.5 * fold_s)

    return scope_of(plan, budget_of_plan, 5.0, training_lengths)


def test_with_time_for_everything_nothing_is_left_out() -> None:
    # 5 + 2 * 10 + 3 * 15 + 10 s are not the trials', who have 0.4 of the minutes or more
    scope = scope_at(80 / 0.6 / 60 + 0.01)
    assert (scope.left_out, scope.budget.num_retrainings, scope.budget.num_baseline_folds) == ((), 6, 3)


@pytest.mark.parametrize(
    ("seconds", "left_out", "num_retrainings", "num_baseline_folds"),
    [
        (65 / 0.6, ("test scores of plain fine-tuning",), 3, 3),
        (45 / 0.6, ("plain fine-tuning as a baseline",), 3, 0),
        (30 / 0.6, ("plain fine-tuning as a baseline", "1 further retraining of the best"), 2, 0),
    ],
)
def test_less_and_less_is_done_beside_the_trials(
    seconds: float, left_out: tuple[str, ...], num_retrainings: int, num_baseline_folds: int
) -> None:
    scope = scope_at(seconds / 60 + 0.01)
    found = (scope.left_out, scope.budget.num_retrainings, scope.budget.num_baseline_folds)
    assert found == (left_out, num_retrainings, num_baseline_folds)
    assert f"; left out for want of time: {', '.join(left_out)}" in str(scope)
    assert scope.plan.space.retrain.seeds == min(3, num_retrainings)


def test_without_time_for_a_trial_the_probe_is_the_result(journal: SearchJournal) -> None:
    scope = scope_at(0.5)  # 5 s before it, 10 s after it, and 20 + 15 s of a trial and its retraining
    assert str(scope) == (
        "0.5 minutes: about the linear probe alone, as there is no time for a trial; left out for want of time: "
        "plain fine-tuning as a baseline, 1 further retraining of the best, trials"
    )
    scheduler = TrialScheduler(scope.plan.space, journal, Clock(), time_budget=scope.budget)
    assert scheduler.next_assignment() is None
    assert scheduler.ending == "search.minutes = 0.5 is too short for a trial"


@pytest.mark.parametrize(("minutes", "baselines"), [(0.2, ["linear_probe"]), (0.5, [])])
def test_less_than_that_is_refused(minutes: float, baselines: list[str]) -> None:
    with pytest.raises(BadInput, match=r"search.minutes: expected at least 0.9 minutes for 1 trial of 3 folds"):
        scope_at(minutes, search__baselines=baselines).forecast.check()


@pytest.mark.parametrize(
    ("seconds", "num_steps", "left_out"),
    [
        (50, 100, ()),  # 5 s before a trial, 10 s after it; 20 + 15 s of its folds and retrainings, two rounds and one
        (49, 75, ("25 of 100 steps of a training",)),
        (34, 50, ("50 of 100 steps of a training",)),
        (27, 33, ("67 of 100 steps of a training",)),
        (26, 100, ("trials",)),
    ],
)
def test_trainings_are_shortened_where_a_trial_does_not_fit(
    seconds: float, num_steps: int, left_out: tuple[str, ...]
) -> None:
    scope = scope_at(seconds / 60, step_s=0.1, training__num_steps=100)
    assert (scope.left_out[2:], scope.budget.has_trials) == (left_out, left_out != ("trials",))
    assert scope.plan.num_steps == scope.plan.num_retrain_steps == num_steps
    assert {config.training.num_steps for config in scope.plan.space.boundary_configs()} == {num_steps}


def test_a_resumed_search_has_no_shorter_trainings_than_before() -> None:
    scope = scope_at(0.7, step_s=0.1, training_lengths=(), training__num_steps=100)
    assert not scope.budget.has_trials


def test_a_length_that_is_searched_stays() -> None:
    scope = scope_at(0.7, step_s=0.1, training__num_steps={"choice": [100, 200]})
    assert scope.left_out[2:] == ("trials",)


def test_the_experiment_may_do_less_by_itself() -> None:
    scope = scope_at(10, retrain__baselines=False)
    assert (scope.left_out, scope.budget.num_retrainings) == ((), 3)
    assert scope_at(0.9, retrain__seeds=0, search__baselines=[]).left_out == ()
