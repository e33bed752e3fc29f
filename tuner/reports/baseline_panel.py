"""Panel of the report about the baselines: a table beside the best trial, and lines in the plot of all trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from tuner.experiment.objective import TOP1, Objective
from tuner.messages.wording import spell_scores
from tuner.record.baselines import BaselineRecord
from tuner.record.differences import Difference, spell_difference
from tuner.reports.baseline_result import BaselineResult
from tuner.reports.plot_layout import GREY
from tuner.reports.search_result import SearchResult

DASHES = {"linear_probe": "dash", "fine_tuning": "dot"}
"""Dash of each baseline's line."""


@dataclass(frozen=True)
class BaselineRow:
    """A row of the table: scores of the best trial or of a baseline, and the best trial's differences to it."""

    name: str
    validation: str
    folds: str
    difference_val: str
    test: str
    difference_test: str
    is_winner: bool


def baseline_rows(result: SearchResult) -> Iterator[BaselineRow]:
    """Yields the best trial and each baseline; nothing if there are no baselines."""
    if not result.baselines:
        return
    if result.best_trial is not None:
        yield BaselineRow(
            name=result.best_trial,
            validation=_score(result.val_score),
            folds=spell_scores(result.fold_scores),
            difference_val="",
            test=_score(result.test_top1_mean, result.test_top1_sd),
            difference_test="",
            is_winner=result.winner == result.best_trial,
        )
    for name, baseline in result.baselines.items():
        yield _row(baseline, is_winner=result.winner == name)


def _row(baseline: BaselineResult, is_winner: bool) -> BaselineRow:
    return BaselineRow(
        name=baseline.label,
        validation=_score(baseline.val_score),
        folds=baseline.reason or spell_scores(baseline.fold_scores),
        difference_val=_difference(baseline.difference_val, "fold", Objective(baseline.objective)),
        test=_score(baseline.test_top1_mean, baseline.test_top1_sd),
        difference_test=_difference(baseline.difference_test, "seed"),
        is_winner=is_winner,
    )


def with_baselines(figure: go.Figure, baselines: Iterable[BaselineRecord]) -> go.Figure:
    """Adds a horizontal line at the mean validation score of each complete baseline, and returns the figure.

    The lowest of several has its label below its line: two scores may be too close for two labels between them.
    """
    scored = sorted(((each.value, each) for each in baselines if each.value is not None), key=lambda pair: pair[0])
    for place, (value, baseline) in enumerate(scored):
        line = {"color": GREY, "width": 1.5, "dash": DASHES[baseline.name]}
        position = "bottom left" if place == 0 and len(scored) > 1 else "top left"
        text = f"{baseline.label} {value:.4f}"
        figure.add_hline(y=value, line=line, annotation_text=text, annotation_position=position)
    return figure


def _score(mean: float | None, sd: float | None = None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}")


def _difference(difference: Difference | None, noun: str, objective: Objective = TOP1) -> str:
    return "–" if difference is None else spell_difference(difference, noun, objective)
