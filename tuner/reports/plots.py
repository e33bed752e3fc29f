"""Plots of a search: pure functions from records of trials to plotly figures.

Dimensions go by dotted path in the records; `names` are the names that are displayed, by path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from trainables.results import FoldResult
from tuner.experiment.dimensions import Choice, Dimension, LogUniform, Uniform
from tuner.experiment.objective import TOP1, Objective
from tuner.experiment.tree import by_short_name
from tuner.messages.wording import spell_params, spell_scores
from tuner.record.events import TrialState
from tuner.record.history import TrialRecord
from tuner.record.selection import mean_and_sd, ranked
from tuner.reports.plot_layout import BLUE, GREEN, GREY, ORANGE, RED, SMALL_MARGIN, new_figure, score_axis

COLORS: dict[TrialState, str] = {"complete": BLUE, "pruned": ORANGE, "failed": RED, "running": GREY}
SYMBOLS: dict[TrialState, str] = {
    "complete": "circle",
    "pruned": "triangle-down-open",
    "failed": "x-thin-open",
    "running": "circle-open",
}
LABELS: dict[TrialState, str] = {
    "complete": "complete",
    "pruned": "stopped early (mean of the folds it has)",
    "failed": "failed",
    "running": "running or cut off (mean of the folds it has)",
}
MAX_LEADERS = 10
"""Trials in the plot of the best; more could not be read."""

Names = Mapping[str, str]


def history_plot(trials: Iterable[TrialRecord], names: Names, others: Iterable[float] = ()) -> go.Figure:
    """Plots every trial's mean score over its number, by state, and the best complete score so far.

    The axis of scores has room for `others`, such as those of baselines.
    """
    trials = sorted(trials, key=lambda trial: trial.number)
    last = max((trial.number for trial in trials), default=0)
    room = 0.02 * last + 0.5
    objective, scores = _objective(trials), [fmean(trial.fold_values) for trial in trials if trial.folds]
    axis = score_axis([*scores, *others], objective.is_share)
    figure = new_figure(yaxis=axis, yaxis_title=f"validation {objective.label}")
    figure.update_xaxes(title="trial", range=[-room, last + room], **_whole_numbers(last))
    steps = _best_so_far(trials)
    if steps:
        line = {"color": GREEN, "width": 2, "shape": "hv"}
        numbers, best = [number for number, _ in steps], [score for _, score in steps]
        figure.add_scatter(x=numbers, y=best, mode="lines", line=line, name="best so far", hoverinfo="skip")
    for state in COLORS:
        known = [trial for trial in trials if trial.state == state and trial.folds]
        if known:
            figure.add_scatter(
                x=[trial.number for trial in known],
                y=[fmean(trial.fold_values) for trial in known],
                **_marks(state, known, names),
                name=LABELS[state],
            )
    scoreless = [trial for trial in trials if not trial.folds]
    for state in ("pruned", "failed", "running"):
        unknown = [trial for trial in scoreless if trial.state == state]
        if unknown:  # no score, so no place on the axis: on the floor of the plot
            figure.add_scatter(
                x=[trial.number for trial in unknown],
                y=[0.02] * len(unknown),
                yaxis="y2",
                **_marks(state, unknown, names),
                name=f"{LABELS[state].partition(' (')[0]}, without a score",
            )
            floor = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
            figure.update_layout(yaxis2=floor)
    return figure


def slice_plot(
    path: str,
    dimension: Dimension,
    trials: Iterable[TrialRecord],
    best: TrialRecord | None,
    names: Names,
    title: str | None = None,
) -> go.Figure:
    """Plots the mean score against the dimension with the key `path`, over the range that was searched; `best` gets a
    ring. Only trials in which the dimension exists are shown, on the scale of all `trials`, so that the panels of a
    search can be compared. `title` is another one than its displayed name."""
    scored = [trial for trial in trials if trial.folds]
    trials = [trial for trial in scored if path in trial.params]
    figure = new_figure(xaxis_title=escape(title or names[path]), showlegend=False, margin=SMALL_MARGIN)
    figure.update_xaxes(_axis_of(dimension))
    means = (fmean(trial.fold_values) for trial in scored)
    figure.update_yaxes(score_axis(means, _objective(scored).is_share))
    for state in ("pruned", "complete"):
        shown = [trial for trial in trials if trial.state == state]
        figure.add_scatter(
            x=[_coordinate(dimension, trial.params[path]) for trial in shown],
            y=[fmean(trial.fold_values) for trial in shown],
            **_marks(state, shown, names),
            opacity=0.8 if state == "complete" else 0.5,
        )
    if best is not None and path in best.params:
        ring = {"symbol": "circle-open", "size": 15, "color": GREEN, "line": {"width": 2}}
        figure.add_scatter(
            x=[_coordinate(dimension, best.params[path])],
            y=[best.value],
            mode="markers",
            marker=ring,
            hoverinfo="skip",
        )
    return figure


def importance_plot(shares: Mapping[str, float]) -> go.Figure:
    """Plots a bar for each dimension, the most important on top; `shares` in [0, 1] by displayed name."""
    ordered = sorted(shares, key=lambda name: shares[name])
    figure = new_figure(xaxis_title="importance", xaxis_tickformat=".0%", xaxis_range=[0, 1.08], showlegend=False)
    figure.update_yaxes(ticksuffix="  ")
    figure.add_bar(
        x=[shares[name] for name in ordered],
        y=[escape(name) for name in ordered],
        orientation="h",
        marker={"color": BLUE},
        width=0.6,
        text=[f"{shares[name]:.0%}" for name in ordered],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    return figure


def leaders_plot(trials: Iterable[TrialRecord], names: Names) -> go.Figure:
    """Plots the fold scores of the best trials, with mean ± sample standard deviation of each; the best on top."""
    leaders = ranked(trials)[:MAX_LEADERS]
    objective = _objective(leaders)
    figure = new_figure(xaxis_title=f"validation {objective.label}")
    figure.update_yaxes(autorange="reversed", type="category", ticksuffix="  ")
    dots = [(trial.trial_id, fold) for trial in leaders for fold in trial.folds]
    figure.add_scatter(
        x=[objective.value(fold) for _, fold in dots],
        y=[trial_id for trial_id, _ in dots],
        mode="markers",
        marker={"color": BLUE, "size": 9, "opacity": 0.55},
        text=[f"fold {fold.fold}: {objective.value(fold):.4f}" for _, fold in dots],
        hovertemplate="%{y}, %{text}<extra></extra>",
        name="a fold",
    )
    spreads = [mean_and_sd(trial.fold_values) for trial in leaders]
    figure.add_scatter(
        x=[mean for mean, _ in spreads],
        y=[trial.trial_id for trial in leaders],
        error_x={"array": [sd or 0.0 for _, sd in spreads], "thickness": 1.5, "width": 5},
        mode="markers",
        marker={"color": GREEN, "size": 11, "symbol": "diamond"},
        text=[hover_text(trial, names) for trial in leaders],
        hovertemplate="%{text}<extra></extra>",
        name="mean ± sd",
    )
    return figure


def folds_plot(trials: Iterable[TrialRecord], num_folds: int) -> go.Figure:
    """Plots a heatmap of scores, trials × folds; a fold that was not trained is empty."""
    trials = sorted(trials, key=lambda trial: trial.number)
    scores = [[trial.fold_values[k] if k < len(trial.folds) else None for trial in trials] for k in range(num_folds)]
    figure = new_figure(xaxis_showgrid=False, yaxis_showgrid=False)
    figure.update_xaxes(title="trial", **_whole_numbers(len(trials)))
    figure.update_yaxes(tickmode="array", tickvals=list(range(1, num_folds + 1)), title="fold", autorange="reversed")
    figure.add_heatmap(
        x=[trial.number for trial in trials],
        y=list(range(1, num_folds + 1)),
        z=scores,
        colorscale="Cividis",
        xgap=1,
        ygap=2,
        reversescale=_objective(trials).lower_is_better,
        colorbar={"title": {"text": _objective(trials).label}, "thickness": 10, "outlinewidth": 0},
        hovertemplate="trial %{x}, fold %{y}: %{z:.4f}<extra></extra>",
        hoverongaps=False,
    )
    return figure


def loss_plot(term: str, folds: Sequence[FoldResult]) -> go.Figure:
    """Plots the curve of one loss term over optimiser steps, a line for each fold."""
    figure = new_figure(xaxis_title="step", showlegend=False, margin=SMALL_MARGIN)
    figure.update_yaxes(rangemode="tozero")
    dashes = ("solid", "dash", "dot", "dashdot")
    for position, fold in enumerate(folds):
        figure.add_scatter(
            x=fold.loss_steps,
            y=fold.loss_terms.get(term, []),
            mode="lines",
            line={"color": BLUE, "width": 1.5, "dash": dashes[position % len(dashes)]},
            name=f"fold {fold.fold}",
            hovertemplate=f"fold {fold.fold}, step %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    return figure


def _best_so_far(trials: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """Lists trial number and value of the best complete trial up to it, from the first complete one on."""
    best: TrialRecord | None = None
    steps = []
    for trial in trials:
        best = next(iter(ranked(filter(None, (best, trial)))), None)
        if best is not None and best.value is not None:
            steps.append((trial.number, best.value))
    return steps


def _objective(trials: Sequence[TrialRecord]) -> Objective:
    """The metric that all trials of a search are scored by."""
    return trials[0].objective if trials else TOP1


def _marks(state: TrialState, trials: Iterable[TrialRecord], names: Names) -> dict[str, Any]:
    is_stroke = SYMBOLS[state].endswith("-open")
    return {
        "mode": "markers",
        "marker": {
            "symbol": SYMBOLS[state],
            "color": COLORS[state],
            "size": 8,
            "line": {"width": 1.5 if is_stroke else 0, "color": COLORS[state]},
        },
        "text": [hover_text(trial, names) for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
    }


def hover_text(trial: TrialRecord, names: Names) -> str:
    """Describes a trial in a few lines of HTML; every text in them is escaped."""
    scores = spell_scores(trial.fold_values)
    score = trial.value
    head = f"{trial.trial_id}: {trial.state}" if score is None else f"{trial.trial_id}: {score:.4f}"
    params = (spell_params({name: value}) for name, value in by_short_name(trial.params, names).items())
    lines = [head, f"folds {scores}" if scores else "", trial.reason[:120], *params]
    return "<br>".join(escape(line) for line in lines if line)


def _whole_numbers(last: int) -> dict[str, Any]:
    """Ticks of an axis of trial numbers: none between two trials."""
    return {"dtick": 1} if last < 20 else {}


def _axis_of(dimension: Dimension) -> dict[str, Any]:
    """Axis over the whole range that was searched, with a little room at its ends."""
    if isinstance(dimension, Choice):
        names = [_coordinate(dimension, value) for value in dimension.choice]
        return {"type": "category", "categoryorder": "array", "categoryarray": names, "range": [-0.5, len(names) - 0.5]}
    if isinstance(dimension, LogUniform):
        low, high = map(math.log10, dimension.log_uniform)
        ticks: dict[str, Any] = {"type": "log", "dtick": 1 if high - low >= 2 else "D2"}
    else:
        low, high = dimension.uniform if isinstance(dimension, Uniform) else dimension.int_
        ticks = {"nticks": 5}
    room = 0.04 * (high - low)
    return {"range": [low - room, high + room], **ticks}


def _coordinate(dimension: Dimension, value: Any) -> Any:
    """Coordinate of a value on the axis of its dimension."""
    return escape(str(value)) if isinstance(dimension, Choice) else value
