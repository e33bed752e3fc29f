"""Timeline of a search: when each fold was trained, without the pauses between the commands of a resumed search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, get_args

import plotly.graph_objects as go

from tuner.messages.wording import clock
from tuner.record.baselines import LABELS
from tuner.record.events import (
    BaselineFoldFinished,
    BaselineRetrained,
    EnsembleTested,
    Event,
    FoldAhead,
    FoldFinished,
    RetrainingFinished,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    trial_id,
)
from tuner.record.history import SearchHistory, TrialRecord
from tuner.reports.plot_layout import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, new_figure

Kind = Literal["baseline", "complete", "pruned", "failed", "running", "retraining"]

STYLES: dict[Kind, tuple[str, str]] = {
    "baseline": (PURPLE, "baseline"),
    "complete": (BLUE, "complete trial"),
    "pruned": (ORANGE, "stopped early"),
    "failed": (RED, "failed"),
    "running": (GREY, "running or cut off"),
    "retraining": (GREEN, "retraining"),
}
"""Colour and name of each kind."""
MIN_ROW_PX, MAX_ROW_PX, ROWS_PX = 7, 22, 700
MINUTES_FROM_S = 180


@dataclass(frozen=True)
class Span:
    """A training on the timeline: that of `row` which `label` names, from `start_s` to `end_s` in seconds of work."""

    row: str
    label: str
    kind: Kind
    start_s: float
    end_s: float


def worked(events: Iterable[Event]) -> Iterator[tuple[float, Event]]:
    """Yields the events, each with the seconds that commands had worked on the search until then."""
    total_s, last_s = 0.0, None
    for event in events:
        if last_s is not None and not isinstance(event, SearchStarted):
            total_s += max(0.0, event.time_s - last_s)
        last_s = event.time_s
        yield total_s, event


def spans_of(events: Iterable[Event], history: SearchHistory) -> list[Span]:
    """Lists the trainings of baselines and trials, fold by fold, and the retrainings, in the order of their starts.

    A trial that failed, was stopped within a fold, or has not ended has a last span: up to its end or the last event.
    """
    spans: dict[tuple[str, str], Span] = {}
    idle_s: dict[int, float] = {}  # when each trial started, or its last fold ended
    now_s = 0.0
    for now_s, event in worked(events):
        if (training := _training_of(event, history)) is not None:
            # of a fold that was trained ahead of its turn there are two events, of which the first is its end
            row, label, kind, duration_s = training
            spans.setdefault((row, label), Span(row, label, kind, max(0.0, now_s - duration_s), now_s))
        if isinstance(event, TrialEnded) and _was_left_in_a_fold(history.trials[event.trial]):
            row = trial_id(event.trial)
            spans[row, ""] = Span(row, event.reason, event.state, idle_s[event.trial], now_s)
        if isinstance(event, TrialStarted | FoldAhead | FoldFinished):
            idle_s[event.trial] = now_s
    for trial in history.trials.values():
        if trial.state == "running":
            label = f"fold {len(trial.folds) + 1}"
            spans[trial.trial_id, label] = Span(trial.trial_id, label, "running", idle_s[trial.number], now_s)
    return sorted(spans.values(), key=lambda span: span.start_s)


def _training_of(event: Event, history: SearchHistory) -> tuple[str, str, Kind, float] | None:
    """Row, label, kind and seconds of the training that ended with this event; None if none did."""
    match event:
        case BaselineFoldFinished(result=fold):
            return LABELS[event.baseline], f"fold {fold.fold}", "baseline", fold.duration_s
        case FoldAhead(result=fold) | FoldFinished(result=fold):
            return trial_id(event.trial), f"fold {fold.fold}", history.trials[event.trial].state, fold.duration_s
        case RetrainingFinished(result=result):
            return f"{trial_id(event.trial)}, seed {result.seed}", "retraining", "retraining", result.duration_s
        case BaselineRetrained(result=result):
            return f"{LABELS[event.baseline]}, seed {result.seed}", "retraining", "retraining", result.duration_s
        case EnsembleTested(result=ensemble):
            return "ensemble", "making and testing it", "retraining", ensemble.duration_s
    return None


def _was_left_in_a_fold(trial: TrialRecord) -> bool:
    return trial.state == "failed" or (
        trial.state == "pruned" and any(rung.fold > len(trial.folds) for rung in trial.rungs)
    )


def timeline_plot(spans: Sequence[Span]) -> go.Figure:
    """Plots a bar for each span, rows from above in the order of their starts."""
    end_s = max((span.end_s for span in spans), default=0.0)
    unit_s, unit = (60.0, "minutes") if end_s > MINUTES_FROM_S else (1.0, "seconds")
    rows = [escape(row) for row in dict.fromkeys(span.row for span in spans)]
    figure = new_figure(barmode="overlay", bargap=0.25, xaxis_title=f"{unit} of work")
    figure.update_xaxes(range=[0, 1.01 * end_s / unit_s])
    is_dense = row_px(len(rows)) < MAX_ROW_PX / 2
    order = {"categoryorder": "array", "categoryarray": rows, "autorange": "reversed"}
    figure.update_yaxes(type="category", ticksuffix="  ", showgrid=False, showticklabels=not is_dense, **order)
    for kind in get_args(Kind):
        shown = [span for span in spans if span.kind == kind]
        color, name = STYLES[kind]
        if shown:
            figure.add_bar(
                base=[span.start_s / unit_s for span in shown],
                x=[(span.end_s - span.start_s) / unit_s for span in shown],
                y=[escape(span.row) for span in shown],
                orientation="h",
                marker={"color": color, "opacity": 0.75, "line": {"width": 1, "color": color}},
                customdata=[escape(f"{span.row}, {span.label[:80]}: {_duration(span)}") for span in shown],
                hovertemplate="%{customdata}<extra></extra>",
                name=name,
            )
    return figure


def _duration(span: Span) -> str:
    return clock(span.end_s - span.start_s)


def row_px(num_rows: int) -> float:
    """Height of a row of the timeline in pixels."""
    return min(MAX_ROW_PX, max(MIN_ROW_PX, ROWS_PX / max(1, num_rows)))


def timeline_px(spans: Sequence[Span]) -> int:
    """Height of the timeline in pixels."""
    num_rows = len({span.row for span in spans})
    return round(110 + row_px(num_rows) * num_rows)
