"""Learning curves of the best trial: metrics of the validation part of each fold over its steps."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from trainables.results import FoldResult
from tuner.experiment.objective import LABELS, Objective
from tuner.record.history import TrialRecord
from tuner.reports.plot_layout import BLUE, GREEN, SMALL_MARGIN, new_figure

DASHES = ("solid", "dash", "dot", "dashdot")


def curve_metrics(best: TrialRecord | None) -> dict[str, str]:
    """Names the metrics that are shown of the best trial, by the id of their figure: the objective first, then top-1
    and log loss. Empty where its folds have no curve."""
    folds = [] if best is None else [fold for fold in best.folds if fold.curve_steps]
    if best is None or not folds:
        return {}
    names = dict.fromkeys((best.objective.name, "top1", "log_loss"))
    return {f"curve-{name}": name for name in names if all(name in fold.curve_metrics for fold in folds)}


def curve_plot(metric: str, folds: Sequence[FoldResult]) -> go.Figure:
    """Plots a metric over optimiser steps, a line for each fold; a ring where weights before the last were kept."""
    figure = new_figure(xaxis_title="step", showlegend=False, margin=SMALL_MARGIN)
    for position, fold in enumerate(folds):
        values = fold.curve_metrics.get(metric, [])
        figure.add_scatter(
            x=fold.curve_steps,
            y=values,
            mode="lines+markers",
            line={"color": BLUE, "width": 1.5, "dash": DASHES[position % len(DASHES)]},
            marker={"size": 5},
            name=f"fold {fold.fold}",
            hovertemplate=f"fold {fold.fold}, step %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        if values and fold.kept_share < 1:
            kept = min(
                range(len(values)), key=lambda i: abs(fold.curve_steps[i] - fold.kept_share * fold.curve_steps[-1])
            )
            ring = {"symbol": "circle-open", "size": 13, "color": GREEN, "line": {"width": 2}}
            kept_at = {"x": [fold.curve_steps[kept]], "y": [values[kept]]}
            figure.add_scatter(**kept_at, mode="markers", marker=ring, hoverinfo="skip")
    return figure


def curve_label(metric: str) -> str:
    """Title of the figure of a metric: `log loss`."""
    return LABELS.get(metric, metric)


def curves_note(objective: Objective, best: TrialRecord | None) -> str:
    """Says what the curves show, and where the best weights were kept what that does to the score."""
    note = "Metrics of the validation part at a few steps of each fold, a line a fold."
    if best is None or best.kept_share == 1:
        return note
    share = f"{best.kept_share:.0%} of the steps on average"
    return (
        f"{note} Each fold is scored with its best weights by {objective.label} (ringed), after {share}. "
        "The best of several scores on the same examples is optimistic; the retraining ends there."
    )
