"""Where classes are very unequal, a search says which settings count them alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.tuner.tiny import space_of
from tuner.experiment.balance import balance_notes
from tuner.experiment.checks import Plan, check_experiment


@pytest.fixture(scope="module")
def plan() -> Plan:
    return check_experiment(space_of())


def notes(plan: Plan, *counts: int, **changes: Any) -> list[str]:
    data = replace(plan.data, class_names=tuple("abcdefghij"[: len(counts)]), train_per_class=counts)
    return list(balance_notes(replace(plan, data=data, space=space_of(**changes))))


def test_equal_classes_are_no_news(plan: Plan) -> None:
    assert list(balance_notes(plan)) == []
    assert notes(plan, 50, 10, 20) == []


def test_a_class_of_more_than_five_times_another_is(plan: Plan) -> None:
    (note,) = notes(plan, 51, 10, 20)
    advice = "search.objective: balanced_accuracy and training.class_weights: balanced"
    assert note == f"the classes are very unequal: {advice} count all of them alike"
    assert len(notes(plan, 6, 0)) == 1


def test_what_the_experiment_does_already_is_not_advised(plan: Plan) -> None:
    (weighted,) = notes(plan, 51, 10, training__class_weights="balanced")
    assert "class_weights" not in weighted
    (by_f1,) = notes(plan, 51, 10, search__objective="macro_f1")
    assert "search.objective" not in by_f1
    assert notes(plan, 51, 10, search__objective="log_loss", training__class_weights="balanced") == []
    searched = {"choice": ["none", "balanced"]}
    assert notes(plan, 51, 10, search__objective="macro_f1", training__class_weights=searched) == []
