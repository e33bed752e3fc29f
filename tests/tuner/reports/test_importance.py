"""Importance and parallel coordinates, and where there are none."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.tuner.reports.searches import alternatives
from tests.tuner.tiny import record
from tuner.experiment.dimensions import Dimension, LogUniform, Uniform
from tuner.record.history import TrialRecord
from tuner.reports.importance import MIN_TRIALS, importance_of, importances_of, parallel_plot
from tuner.reports.plot_layout import GREEN

DIMENSIONS: dict[str, Dimension] = {
    "method.matters": Uniform(uniform=(0, 1)),
    "method.idle": LogUniform(log_uniform=(0.01, 1)),
}
NAMES = {"method.matters": "matters", "method.idle": "idle"}


def trials(count: int, score: Callable[[float], float] = lambda x: 1 - x) -> list[TrialRecord]:
    rng = random.Random(0)
    points = [{"method.matters": rng.random(), "method.idle": 10 ** rng.uniform(-2, 0)} for _ in range(count)]
    return [record(n, [score(point["method.matters"])], params=point) for n, point in enumerate(points)]


@pytest.mark.parametrize(("count", "method"), [(20, "fANOVA"), (120, "PED-ANOVA")])
def test_the_dimension_that_decides_is_the_important_one(count: int, method: str) -> None:
    importance = importance_of(DIMENSIONS, trials(count), NAMES)
    assert sum(importance.shares.values()) == pytest.approx(1)
    assert importance.shares["matters"] > 0.8
    assert method in importance.note
    assert str(count) in importance.note


def test_too_few_trials_are_refused_with_their_number() -> None:
    few = trials(MIN_TRIALS - 1)
    stopped = [record(n, [0.1], "pruned", {"method.matters": 0.5, "method.idle": 0.5}) for n in range(100, 110)]
    importance = importance_of(DIMENSIONS, [*few, *stopped], NAMES)
    assert importance.shares == {}
    assert "needs 10 complete trials, and there are 9" in importance.note


def test_equal_scores_and_no_dimensions_are_said() -> None:
    assert "same score" in importance_of(DIMENSIONS, trials(12, lambda x: 0.5), NAMES).note
    assert importance_of({}, [record(0, [0.5])], {}).note == "Nothing was searched."


def test_parallel_coordinates_have_a_line_a_complete_trial_with_the_best_on_top() -> None:
    known = trials(5)
    figure = parallel_plot(DIMENSIONS, [*known, record(5, [0.1], "pruned", known[0].params)], NAMES)
    assert figure is not None
    assert len(figure.data) == 5
    best = max(known, key=lambda trial: trial.val_top1 or 0.0)
    assert figure.data[-1].line.color == GREEN
    assert set(figure.layout.xaxis.ticktext) == {"top-1", "matters", "idle"}
    assert figure.data[-1].customdata[0][1] == f"{best.val_top1:.3g}"


def test_one_line_says_nothing() -> None:
    assert parallel_plot(DIMENSIONS, trials(1), NAMES) is None
    assert parallel_plot({}, [record(0, [0.5]), record(1, [0.6])], {}) is None


def test_optuna_is_imported_by_an_analysis_alone() -> None:
    code = "import sys, tuner.reports.importance; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_alternatives_are_important_over_all_trials_and_their_dimensions_over_their_own() -> None:
    space, points, ended = alternatives(80)
    known = [record(n, scores, state, points[n]) for n, (state, scores, _) in enumerate(ended)]
    found = importances_of(space, known, space.short_names)
    assert [each.condition for each in found] == [
        "",
        "method = mixup",
        "method = smile",
        "training = frozen",
        "training = moving",
    ]
    of_all, _, of_smile, *_ = found
    assert set(of_all.shares) == {"method", "training", "momentum"}
    assert max(of_all.shares, key=lambda name: of_all.shares[name]) == "method"
    assert set(of_smile.shares) == {"gamma_fe", "alpha", "training", "momentum"}
    assert max(of_smile.shares, key=lambda name: of_smile.shares[name]) == "alpha"
    num_smile = sum(trial.params["method"] == "smile" and trial.state == "complete" for trial in known)
    assert f"the {num_smile} complete trials" in of_smile.note


def test_an_alternative_with_too_few_trials_says_so() -> None:
    space, points, ended = alternatives(15)
    known = [record(n, scores, state, points[n]) for n, (state, scores, _) in enumerate(ended)]
    of_all, of_mixup, *_ = importances_of(space, known, space.short_names)
    assert of_all.shares
    assert "needs 10 complete trials" in of_mixup.note
