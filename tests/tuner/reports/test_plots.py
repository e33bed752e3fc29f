"""What the pictures hold."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import plotly.graph_objects as go
import pytest

from tests.tuner.reports.searches import fold
from tests.tuner.tiny import record, with_losses
from tuner.experiment.dimensions import Choice, Integer, LogUniform, Uniform
from tuner.reports import plots

NAMES = {"method.x": "x"}
TRIALS = [
    record(0, [0.5, 0.6], params={"method.x": 0.1}),
    record(1, [0.2], "pruned", {"method.x": 0.2}),
    record(2, [0.8, 0.9], params={"method.x": 0.3}),
    record(3, [], "failed", {"method.x": 0.4}),
]


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_history_shows_every_trial_and_the_best_so_far() -> None:
    by_name = traces(plots.history_plot(TRIALS, NAMES))
    assert list(by_name["best so far"].y) == pytest.approx([0.55, 0.55, 0.85, 0.85])
    assert list(by_name["complete"].x) == [0, 2]
    assert list(by_name[plots.LABELS["pruned"]].x) == [1]
    assert list(by_name["failed, without a score"].x) == [3]


def test_a_search_without_a_trial_has_an_empty_history() -> None:
    assert plots.history_plot([], {}).data == ()


@pytest.mark.parametrize(
    ("dimension", "kind", "ends"),
    [
        (LogUniform(log_uniform=(0.01, 1.0)), "log", [-2, 0]),
        (Uniform(uniform=(0.0, 1.0)), None, [0, 1]),
        (Integer.model_validate({"int": [0, 10]}), None, [0, 10]),
        (Choice(choice=(0.1, 0.2, 0.3)), "category", [0, 2]),
    ],
)
def test_a_slice_shows_the_whole_range_on_the_axis_of_its_dimension(dimension: Any, kind: Any, ends: list[int]) -> None:
    axis = plots.slice_plot("method.x", dimension, TRIALS, TRIALS[2], NAMES).layout.xaxis
    assert axis.type == kind
    assert axis.title.text == "x"
    low, high = axis.range
    assert low < ends[0]
    assert ends[1] < high


def test_a_slice_rings_the_best_and_leaves_out_what_has_no_score() -> None:
    pruned, complete, ring = plots.slice_plot("method.x", Uniform(uniform=(0, 1)), TRIALS, TRIALS[2], NAMES).data
    assert (list(pruned.x), list(complete.x), list(ring.x)) == ([0.2], [0.1, 0.3], [0.3])


def test_the_leaders_stand_best_first_each_with_its_folds() -> None:
    dots, means = plots.leaders_plot(TRIALS, NAMES).data
    assert list(means.y) == ["trial-0002", "trial-0000"]
    assert list(means.x) == pytest.approx([0.85, 0.55])
    assert list(dots.x) == [0.8, 0.9, 0.5, 0.6]


def test_there_are_no_more_leaders_than_can_be_read() -> None:
    _, means = plots.leaders_plot([record(n, [0.5, 0.5]) for n in range(30)], {}).data
    assert len(means.y) == plots.MAX_LEADERS


def test_a_fold_that_was_not_trained_is_empty() -> None:
    (heatmap,) = plots.folds_plot(TRIALS, 2).data
    assert [list(row) for row in heatmap.z] == [[0.5, 0.2, 0.8, None], [0.6, None, 0.9, None]]


def test_a_loss_has_a_line_a_fold() -> None:
    lines = plots.loss_plot("target_label", [fold(1, 0.5), fold(2, 0.8)]).data
    assert [list(line.y) for line in lines] == [[2.0, 0.75], [2.0, 0.6]]


def test_what_a_user_wrote_is_no_markup_in_a_picture() -> None:
    trial = record(0, [0.5], "pruned", {"method.<b>x": "<i>"})
    trial.reason = "<script>"
    text = plots.history_plot([trial], {"method.<b>x": "<b>x"}).data[0].text[0]
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;x=&lt;i&gt;" in text
    assert "<script>" not in text


def test_an_axis_of_scores_is_that_of_the_scores() -> None:
    """Differences of two points would look flat from 0 to 1."""
    near = [record(number, [0.9 + 0.01 * number]) for number in range(3)]
    low, high = plots.history_plot(near, {}).layout.yaxis.range
    assert 0.87 < low < 0.9 < 0.92 < high < 0.95
    assert plots.history_plot(near, {}, others=[0.7]).layout.yaxis.range[0] < 0.7
    assert list(plots.history_plot([], {}).layout.yaxis.range) == [0, 1]


def test_every_panel_of_a_dimension_has_the_scale_of_all_trials() -> None:
    means = [fmean(trial.fold_scores) for trial in TRIALS if trial.folds]
    for key in ("method.x", "method.of_no_trial"):
        axis = plots.slice_plot(key, Uniform(uniform=(0, 1)), TRIALS, TRIALS[2], {key: key}).layout.yaxis
        low, high = axis.range
        assert low < min(means) < max(means) < high
        assert high - low < 1.2 * (max(means) - min(means)) + 0.05


def test_of_a_loss_the_values_are_shown_and_the_best_so_far_falls() -> None:
    losses = [with_losses(record(n, [0.5, 0.5]), [loss, loss]) for n, loss in enumerate((0.9, 1.5, 0.4))]
    figure = plots.history_plot(losses, NAMES)
    assert list(traces(figure)["best so far"].y) == pytest.approx([0.9, 0.9, 0.4])
    assert list(traces(figure)["complete"].y) == pytest.approx([0.9, 1.5, 0.4])
    assert figure.layout.yaxis.title.text == "validation log loss"
    assert figure.layout.yaxis.range[1] > 1.5
    leaders = plots.leaders_plot(losses, NAMES)
    assert leaders.layout.xaxis.title.text == "validation log loss"
    assert list(traces(leaders)["mean ± sd"].x) == pytest.approx([0.4, 0.9, 1.5])
    heat = plots.folds_plot(losses, 2).data[0]
    assert (list(heat.z[0]), heat.reversescale) == ([0.9, 1.5, 0.4], True)
