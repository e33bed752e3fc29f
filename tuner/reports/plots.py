"""A search in pictures: pure functions from records of trials to plotly figures.

Grounds are transparent and text has no colour of its own: the page gives it that of a light or a dark ground.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from tuner.experiment.dimensions import Choice, Dimension, LogUniform, Uniform
from tuner.messages.wording import spell_params
from tuner.record.history import TrialRecord, TrialState
from tuner.record.selection import mean_and_sd

# Told apart by people who see no red or no green, and at least 3:1 against white and against near-black.
BLUE, ORANGE, RED, GREEN, GREY = "#2f81c9", "#d0781f", "#d5483a", "#0f9d76", "#8a8f98"
COLORS: dict[TrialState, str] = {"complete": BLUE, "pruned": ORANGE, "failed": RED, "running": GREY}
SYMBOLS: dict[TrialState, str] = {
    "complete": "circle",
    "pruned": "triangle-down-open",
    "failed": "x-thin-open",
    "running": "circle-open",
}
WORDS: dict[TrialState, str] = {
    "complete": "complete",
    "pruned": "stopped early (mean of the folds it has)",
    "failed": "failed",
    "running": "running or cut off (mean of the folds it has)",
}

MAX_LEADERS = 10
SMALL_MARGIN = {"l": 48, "r": 12, "t": 8, "b": 44}
GRID = "rgba(128,128,128,.18)"
AXIS = {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 8, "font": {"size": 13}}}
SCORES = {"autorangeoptions": {"minallowed": -0.02, "maxallowed": 1.02}}
"""An axis of scores, which shows no more than there can be."""
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 60, "r": 16, "t": 16, "b": 48},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": AXIS,
        "yaxis": AXIS,
    }
)


def history_plot(trials: Iterable[TrialRecord]) -> go.Figure:
    """Every trial by number and state, and the best so far."""
    trials = sorted(trials, key=lambda trial: trial.number)
    last = max((trial.number for trial in trials), default=0)
    room = 0.02 * last + 0.5
    figure = _figure(yaxis=SCORES, yaxis_title="validation top-1")
    figure.update_xaxes(title="trial", range=[-room, last + room], **_whole_numbers(last))
    steps = _best_so_far(trials)
    if steps:
        line = {"color": GREEN, "width": 2, "shape": "hv"}
        numbers, scores = [number for number, _ in steps], [score for _, score in steps]
        figure.add_scatter(x=numbers, y=scores, mode="lines", line=line, name="best so far", hoverinfo="skip")
    for state in COLORS:
        known = [trial for trial in trials if trial.state == state and trial.folds]
        if known:
            figure.add_scatter(
                x=[trial.number for trial in known],
                y=[fmean(trial.fold_scores) for trial in known],
                **_marks(state, known),
                name=WORDS[state],
            )
    scoreless = [trial for trial in trials if not trial.folds]
    for state in ("pruned", "failed", "running"):
        unknown = [trial for trial in scoreless if trial.state == state]
        if unknown:  # no score, so no place on the axis: on the floor of the plot
            figure.add_scatter(
                x=[trial.number for trial in unknown],
                y=[0.02] * len(unknown),
                yaxis="y2",
                **_marks(state, unknown),
                name=f"{WORDS[state].partition(' (')[0]}, without a score",
            )
            floor = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
            figure.update_layout(yaxis2=floor)
    return figure


def slice_plot(name: str, dimension: Dimension, trials: Iterable[TrialRecord], best: TrialRecord | None) -> go.Figure:
    """Score against one dimension, over the range that was searched."""
    trials = [trial for trial in trials if trial.folds and name in trial.params]
    figure = _figure(xaxis_title=escape(name), showlegend=False, margin=SMALL_MARGIN)
    figure.update_xaxes(_axis_of(dimension))
    figure.update_yaxes(SCORES)
    for state in ("pruned", "complete"):
        shown = [trial for trial in trials if trial.state == state]
        figure.add_scatter(
            x=[_place(dimension, trial.params[name]) for trial in shown],
            y=[fmean(trial.fold_scores) for trial in shown],
            **_marks(state, shown),
            opacity=0.8 if state == "complete" else 0.5,
        )
    if best is not None and name in best.params:
        ring = {"symbol": "circle-open", "size": 15, "color": GREEN, "line": {"width": 2}}
        figure.add_scatter(
            x=[_place(dimension, best.params[name])], y=[best.val_top1], mode="markers", marker=ring, hoverinfo="skip"
        )
    return figure


def importance_plot(shares: Mapping[str, float]) -> go.Figure:
    """A bar a dimension, the most important on top."""
    names = sorted(shares, key=lambda name: shares[name])
    figure = _figure(xaxis_title="importance", xaxis_tickformat=".0%", xaxis_range=[0, 1.08], showlegend=False)
    figure.update_yaxes(ticksuffix="  ")
    figure.add_bar(
        x=[shares[name] for name in names],
        y=[escape(name) for name in names],
        orientation="h",
        marker={"color": BLUE},
        width=0.6,
        text=[f"{shares[name]:.0%}" for name in names],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    return figure


def leaders_plot(trials: Iterable[TrialRecord]) -> go.Figure:
    """The folds of the best trials, each with mean ± sample standard deviation; the best on top."""
    complete = [trial for trial in trials if trial.state == "complete"]
    leaders = sorted(complete, key=lambda trial: (-(trial.val_top1 or 0.0), trial.number))[:MAX_LEADERS]
    figure = _figure(xaxis_title="validation top-1")
    figure.update_yaxes(autorange="reversed", type="category", ticksuffix="  ")
    dots = [(score, trial, fold["fold"]) for trial in leaders for score, fold in _folds(trial)]
    figure.add_scatter(
        x=[score for score, _, _ in dots],
        y=[trial.trial_id for _, trial, _ in dots],
        mode="markers",
        marker={"color": BLUE, "size": 9, "opacity": 0.55},
        text=[f"fold {fold}: {score:.4f}" for score, _, fold in dots],
        hovertemplate="%{y}, %{text}<extra></extra>",
        name="a fold",
    )
    spreads = [mean_and_sd(trial.fold_scores) for trial in leaders]
    figure.add_scatter(
        x=[mean for mean, _ in spreads],
        y=[trial.trial_id for trial in leaders],
        error_x={"array": [sd or 0.0 for _, sd in spreads], "thickness": 1.5, "width": 5},
        mode="markers",
        marker={"color": GREEN, "size": 11, "symbol": "diamond"},
        text=[_spell(trial) for trial in leaders],
        hovertemplate="%{text}<extra></extra>",
        name="mean ± sd",
    )
    return figure


def folds_plot(trials: Iterable[TrialRecord], num_folds: int) -> go.Figure:
    """Trials × folds, coloured by score; a fold that was not trained is empty."""
    trials = sorted(trials, key=lambda trial: trial.number)
    scores = [[trial.fold_scores[k] if k < len(trial.folds) else None for trial in trials] for k in range(num_folds)]
    figure = _figure(xaxis_showgrid=False, yaxis_showgrid=False)
    figure.update_xaxes(title="trial", **_whole_numbers(len(trials)))
    figure.update_yaxes(tickmode="array", tickvals=list(range(1, num_folds + 1)), title="fold", autorange="reversed")
    figure.add_heatmap(
        x=[trial.number for trial in trials],
        y=list(range(1, num_folds + 1)),
        z=scores,
        colorscale="Cividis",
        xgap=1,
        ygap=2,
        colorbar={"title": {"text": "top-1"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate="trial %{x}, fold %{y}: %{z:.4f}<extra></extra>",
        hoverongaps=False,
    )
    return figure


def loss_plot(term: str, folds: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One loss term over steps, a line a fold."""
    figure = _figure(xaxis_title="step", showlegend=False, margin=SMALL_MARGIN)
    figure.update_yaxes(rangemode="tozero")
    dashes = ("solid", "dash", "dot", "dashdot")
    for position, fold in enumerate(folds):
        figure.add_scatter(
            x=fold["loss_steps"],
            y=fold["loss_terms"].get(term, []),
            mode="lines",
            line={"color": BLUE, "width": 1.5, "dash": dashes[position % len(dashes)]},
            name=f"fold {fold['fold']}",
            hovertemplate=f"fold {fold['fold']}, step %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    return figure


def with_report_layout(figure: go.Figure, **layout: Any) -> go.Figure:
    """A figure from elsewhere in the clothes of these."""
    figure.update_layout(template=TEMPLATE, title=None, plot_bgcolor="rgba(0,0,0,0)", **layout)
    return figure


def _figure(**layout: Any) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(template=TEMPLATE, **layout)
    return figure


def _best_so_far(trials: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """The best complete score up to each trial, from the first complete one on."""
    best: float | None = None
    steps = []
    for trial in trials:
        score = trial.val_top1
        best = score if best is None or (score is not None and score > best) else best
        if best is not None:
            steps.append((trial.number, best))
    return steps


def _marks(state: TrialState, trials: Iterable[TrialRecord]) -> dict[str, Any]:
    is_stroke = SYMBOLS[state].endswith("-open")
    return {
        "mode": "markers",
        "marker": {
            "symbol": SYMBOLS[state],
            "color": COLORS[state],
            "size": 8,
            "line": {"width": 1.5 if is_stroke else 0, "color": COLORS[state]},
        },
        "text": [_spell(trial) for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _spell(trial: TrialRecord) -> str:
    """A trial in a few lines; what a user wrote cannot become markup."""
    scores = " ".join(f"{score:.4f}" for score in trial.fold_scores)
    score = trial.val_top1
    head = f"{trial.trial_id}: {trial.state}" if score is None else f"{trial.trial_id}: {score:.4f}"
    params = (spell_params({name: value}) for name, value in trial.params.items())
    lines = [head, f"folds {scores}" if scores else "", trial.reason[:120], *params]
    return "<br>".join(escape(line) for line in lines if line)


def _folds(trial: TrialRecord) -> Iterable[tuple[float, Mapping[str, Any]]]:
    return zip(trial.fold_scores, trial.folds, strict=True)


def _whole_numbers(last: int) -> dict[str, Any]:
    """Ticks of an axis of trials: there is none between two."""
    return {"dtick": 1} if last < 20 else {}


def _axis_of(dimension: Dimension) -> dict[str, Any]:
    """The whole range that was searched, with a little room at its ends."""
    if isinstance(dimension, Choice):
        names = [_place(dimension, value) for value in dimension.choice]
        return {"type": "category", "categoryorder": "array", "categoryarray": names, "range": [-0.5, len(names) - 0.5]}
    if isinstance(dimension, LogUniform):
        low, high = map(math.log10, dimension.log_uniform)
        ticks: dict[str, Any] = {"type": "log", "dtick": 1 if high - low >= 2 else "D2"}
    else:
        low, high = dimension.uniform if isinstance(dimension, Uniform) else dimension.int_
        ticks = {"nticks": 5}
    room = 0.04 * (high - low)
    return {"range": [low - room, high + room], **ticks}


def _place(dimension: Dimension, value: Any) -> Any:
    """Where a value stands on the axis of its dimension."""
    return escape(str(value)) if isinstance(dimension, Choice) else value
