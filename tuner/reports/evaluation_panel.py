"""Panels of the report about the model: its metrics, its accuracy a class, its calibration and its confusions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from trainables.calibration import with_temperature
from trainables.class_scores import ShareRight
from trainables.metrics import reliability
from tuner.reports.evaluation import Calibration, Evaluation, ModelEvaluation, calibration_of
from tuner.reports.mistakes import Kind, Mistake
from tuner.reports.plot_layout import BLUE, GREY, ORANGE, SMALL_MARGIN, new_figure

LABELS = {
    "top1": "top-1",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "calibration_error": "expected calibration error",
}
MAX_CLASSES_WITH_COUNTS = 30
"""Classes up to which the cells of the confusion matrix hold their counts as text."""
MAX_CONFUSIONS = 10


@dataclass(frozen=True)
class MetricRow:
    """A metric of the model out of fold and on the test split, each with its interval."""

    name: str
    validation: str
    test: str


@dataclass(frozen=True)
class ClassRow:
    """A class: its accuracy out of fold and on the test split, with intervals and counts."""

    name: str
    validation: str
    test: str


@dataclass(frozen=True)
class EvaluationPanel:
    """What the report says about the model."""

    evaluation: ModelEvaluation
    calibration: Calibration
    metrics: list[MetricRow]
    classes: list[ClassRow]
    confusions: list[str]
    mistakes: dict[Kind, list[Mistake]]
    num_mistakes: int

    @property
    def tested(self) -> Evaluation:
        """Evaluation that confusions are of: the test split, or out of fold where nothing was tested."""
        return self.evaluation.test or self.evaluation.validation


def evaluation_panel(evaluation: ModelEvaluation, mistakes: dict[Kind, list[Mistake]]) -> EvaluationPanel:
    """Makes the panels from predictions; `mistakes` are those that are shown."""
    tested = evaluation.test or evaluation.validation
    return EvaluationPanel(
        evaluation=evaluation,
        calibration=calibration_of(evaluation.validation),
        metrics=list(_metric_rows(evaluation)),
        classes=list(_class_rows(evaluation)),
        confusions=list(_confusions(tested, evaluation.names.class_names)),
        mistakes=mistakes,
        num_mistakes=len(tested.mistakes()),
    )


def _metric_rows(evaluation: ModelEvaluation) -> Iterator[MetricRow]:
    test = {} if evaluation.test is None else evaluation.test.metrics
    for name, value in evaluation.validation.metrics.items():
        yield MetricRow(LABELS[name], str(value), str(test[name]) if name in test else "–")


def _class_rows(evaluation: ModelEvaluation) -> Iterator[ClassRow]:
    """Yields the classes, the worst first, as they are on the test split, or out of fold without one."""
    validation = evaluation.validation.class_accuracies()
    test = validation if evaluation.test is None else evaluation.test.class_accuracies()
    shares = [each.share if each.num else 2.0 for each in test]
    for k in np.argsort(shares, kind="stable").tolist():
        shown = "–" if evaluation.test is None else _accuracy(test[k])
        yield ClassRow(evaluation.names.class_names[k], _accuracy(validation[k]), shown)


def _accuracy(right: ShareRight) -> str:
    if not right.num:
        return "–"
    low, high = right.interval()
    return f"{right.share:.2f} ({low:.2f} to {high:.2f}, {right.num})"


def _confusions(evaluation: Evaluation, class_names: tuple[str, ...]) -> Iterator[str]:
    """Yields the most frequent confusions in words."""
    counts = evaluation.confusion - np.diag(np.diag(evaluation.confusion))
    for cell in np.argsort(-counts, axis=None, kind="stable")[:MAX_CONFUSIONS].tolist():
        label, predicted = divmod(cell, len(class_names))
        if counts[label, predicted]:
            times = f"{counts[label, predicted]} of {evaluation.confusion[label].sum()}"
            yield f"{class_names[label]} taken for {class_names[predicted]}: {times}"


def confusion_plot(panel: EvaluationPanel) -> go.Figure:
    """Plots the share of each label's examples (row) that were predicted as each class (column)."""
    counts = panel.tested.confusion
    names = [escape(name) for name in panel.evaluation.names.class_names]
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    figure = new_figure(showlegend=False, margin=SMALL_MARGIN, xaxis_title="predicted", yaxis_title="label")
    has_text = len(names) <= MAX_CLASSES_WITH_COUNTS
    figure.add_heatmap(
        z=shares.tolist(),
        x=names,
        y=names,
        text=[[str(count) if count else "" for count in row] for row in counts.tolist()] if has_text else None,
        texttemplate="%{text}" if has_text else None,
        customdata=counts.tolist(),
        hovertemplate="%{y} taken for %{x}: %{customdata} (%{z:.0%})<extra></extra>",
        colorscale=[[0, "rgba(47,129,201,0)"], [1, "rgba(47,129,201,.65)"]],  # behind text in the page's colour
        zmin=0,
        zmax=1,
        showscale=False,
    )
    categories = {"type": "category", "showgrid": False, "dtick": 1 if has_text else None}  # also if named by numbers
    figure.update_yaxes(autorange="reversed", **categories)
    figure.update_xaxes(tickangle=-45, **categories)
    return figure


def reliability_plot(panel: EvaluationPanel) -> go.Figure:
    """Plots accuracy against confidence out of fold, as it is and with the fitted temperature.

    The area of a mark grows with the number of its examples: bins of a few are jagged.
    """
    kept, temperature = panel.evaluation.validation.predictions, panel.calibration.temperature
    figure = new_figure(xaxis_title="confidence", yaxis_title="accuracy", margin=SMALL_MARGIN)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, name="calibrated")
    scaled = with_temperature(kept.probabilities, temperature)
    for name, shares, color in (("as it is", kept.probabilities, ORANGE), ("with temperature", scaled, BLUE)):
        count, confidence, accuracy = reliability(shares, kept.labels)
        filled = count > 0
        figure.add_scatter(
            x=confidence[filled].tolist(),
            y=accuracy[filled].tolist(),
            customdata=count[filled].astype(int).tolist(),
            mode="lines+markers",
            name=name,
            line={"color": color},
            marker={"size": (4 + 12 * np.sqrt(count[filled] / count.max())).tolist()},
            hovertemplate="confidence %{x:.2f}, accuracy %{y:.2f}, %{customdata} examples<extra></extra>",
        )
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.02])
    return figure
