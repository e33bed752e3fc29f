"""Importance and parallel coordinates, and where there are none."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.tuner.reports.searches import alternatives
from tests.tuner.tiny import record
from tuner.experiment.dimensions import Choice, Dimension, LogUniform, Uniform
from tuner.record.history import TrialRecord
from tuner.record.selection import best_trial
from tuner.reports.importance import (
    MAX_IN_CONTOUR,
    MIN_TRIALS,
    Group,
    Importance,
    groups_of,
    importance_of,
    importances_of,
    pair_plots,
    parallel_plot,
)
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


def test_a_pair_has_a_contour_of_the_score_and_the_trials_by_rank() -> None:
    known = trials(12)
    ((contour, ranks),) = pair_plots(Group("", DIMENSIONS, known, NAMES), Importance("", {"matters": 0.9, "idle": 0.1}))
    assert contour is not None
    assert {trace.type for trace in contour.data} == {"contour", "scatter"}
    assert max(value for row in contour.data[0].z for value in row if value == value) == best_trial(known).value  # type: ignore[union-attr]
    assert {contour.layout.xaxis.title.text, contour.layout.yaxis.title.text} == {"matters", "idle"}
    assert contour.layout.yaxis.type != contour.layout.xaxis.type == "log"
    (points,) = ranks.data
    best = best_trial(known)
    assert best is not None
    assert [known[i].number for i, color in enumerate(points.marker.color) if color == GREEN] == [best.number]
    assert points.hovertext[best.number].startswith(f"{best.trial_id}: {best.value:.4f}<br>")


def test_pairs_are_those_of_the_most_important_dimensions_that_vary() -> None:
    names = {f"method.d{i}": f"d{i}" for i in range(6)}
    dimensions: dict[str, Dimension] = {path: Uniform(uniform=(0, 1)) for path in names}
    rng = random.Random(0)
    known = [record(n, [rng.random()], params={path: rng.random() for path in names}) for n in range(12)]
    for trial in known:
        trial.params["method.d0"] = 0.5  # which Optuna cannot plot
    importance = Importance("", {"d0": 0.4, "d3": 0.3, "d1": 0.2, "d5": 0.08, "d2": 0.02})
    pairs = pair_plots(Group("", dimensions, known, names), importance)
    axes = [{ranks.layout.xaxis.title.text, ranks.layout.yaxis.title.text} for _, ranks in pairs]
    assert all(contour is not None for contour, _ in pairs)
    assert axes == [{"d3", "d1"}, {"d3", "d5"}, {"d1", "d5"}]


def test_without_importance_or_with_one_dimension_there_are_no_pairs() -> None:
    known = trials(12)
    assert pair_plots(Group("", DIMENSIONS, known, NAMES), Importance("too few")) == []
    one = {"method.matters": DIMENSIONS["method.matters"]}
    assert pair_plots(Group("", one, known, NAMES), Importance("", {"matters": 1.0})) == []
    assert pair_plots(Group("", {}, known, NAMES), Importance("nothing")) == []


def test_a_contour_is_of_the_best_trials_and_bounded() -> None:
    known = trials(MAX_IN_CONTOUR + 30)
    ((contour, ranks),) = pair_plots(Group("", DIMENSIONS, known, NAMES), Importance("", {"matters": 0.9, "idle": 0.1}))
    assert contour is not None
    assert len(contour.data[0].x) == MAX_IN_CONTOUR + 2
    assert len(ranks.data[0].x) == len(known)


def test_a_choice_is_a_category_and_what_a_user_wrote_is_escaped() -> None:
    dimensions: dict[str, Dimension] = {**DIMENSIONS, "data.<b>": Choice(choice=("x", "y"))}
    known = trials(12)
    for trial in known:
        trial.params["data.<b>"] = "xy"[trial.number % 2]
    importance = Importance("", {"<b>": 0.8, "matters": 0.2})
    ((contour, ranks),) = pair_plots(Group("", dimensions, known, {**NAMES, "data.<b>": "<b>"}), importance)
    assert contour is None, "there is nothing between two alternatives"
    axis = ranks.layout.xaxis
    assert (axis.title.text, axis.type, list(axis.categoryarray)) == ("&lt;b&gt;", "category", ["x", "y"])
    assert all("&lt;b&gt;=" in text for text in ranks.data[0].hovertext)


def test_alternatives_have_pairs_of_their_own_dimensions() -> None:
    space, points, ended = alternatives(80)
    known = [record(n, scores, state, points[n]) for n, (state, scores, _) in enumerate(ended)]
    found = importances_of(space, known, space.short_names)
    groups = groups_of(space, known, space.short_names)
    assert [group.condition for group in groups] == [importance.condition for importance in found]
    of_all, of_smile = (pair_plots(groups[position], found[position]) for position in (0, 2))
    assert len(of_all) == len(of_smile) == 3
    assert "alpha" in {of_smile[0][1].layout.xaxis.title.text, of_smile[0][1].layout.yaxis.title.text}
