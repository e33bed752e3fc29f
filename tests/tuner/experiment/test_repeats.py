"""How often the folds are dealt where the file does not say it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from tuner.experiment.checks import Plan, check_experiment
from tuner.experiment.repeats import num_repeats
from tuner.experiment.search_experiment import parse_experiment


def plan_of(**changes: Any) -> Plan:
    return check_experiment(space_of(search__repeats="auto", **changes))


def test_fewer_examples_are_dealt_more_often() -> None:
    counts = [num_repeats(num_train) for num_train in range(2, 2000)]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (3, 1)


def test_the_checked_experiment_has_a_number_and_so_has_its_record() -> None:
    plan = plan_of()
    assert plan.space.search.repeats == num_repeats(30)
    assert plan.num_trial_folds == 2 * num_repeats(30) == plan.space.search.num_trial_folds
    assert plan.total_steps == 6 * plan.num_trial_folds * 2
    again = parse_experiment(plan.space.as_tree())
    assert again.search.repeats == num_repeats(30)
    assert check_experiment(again).space == again


def test_the_plan_says_why() -> None:
    assert str(plan_of()) == (
        "6 trials × 2 folds × 3 repeats × 2 steps (2 epochs) of 8 examples "
        "(3 repeats, as there are 30 training examples)"
    )
    assert "repeats" not in str(check_experiment(space_of()))
    assert "as there are" not in str(check_experiment(space_of(search__repeats=2)))
    assert "repeats" not in str(plan_of(data__train_images=1000))


def test_an_unchecked_experiment_has_no_length_of_a_trial() -> None:
    with pytest.raises(ValueError, match="resolved when the experiment is checked"):
        _ = space_of(search__repeats="auto").search.num_trial_folds


def test_a_budget_of_folds_has_to_suffice_for_one_trial() -> None:
    with pytest.raises(BadInput) as bad:
        plan_of(search__max_fold_trainings=3)
    assert str(bad.value) == (
        "tiny.yaml: search.max_fold_trainings: expected at least the 6 folds of one trial, 2 folds × 3 repeats "
        "(search.repeats is auto, and there are 30 training examples), got 3"
    )
    with pytest.raises(BadInput, match="at least the 4 folds of one trial, got 3"):
        space_of(search__repeats=2, search__max_fold_trainings=3)
