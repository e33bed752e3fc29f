"""Chooses the figures of a report, and packs them and plotly.js for its page."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from functools import cache

import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from tuner.record.history import TrialRecord
from tuner.reports import plots
from tuner.reports.baseline_panel import with_baselines
from tuner.reports.curves import curve_metrics, curve_plot
from tuner.reports.importance import Importance, common_dimensions, groups_of, leaf_name, pair_plots, parallel_plot
from tuner.reports.search_run import SearchRun
from tuner.reports.timeline import spans_of, timeline_plot, timeline_px

IMPORTANCE = "importance-plot"
PAIR_PX = 300

Figures = dict[str, tuple[go.Figure, int]]
"""Figures by the id of their element on the page, each with its height in pixels."""


def figures_of(run: SearchRun, importances: Sequence[Importance]) -> Figures:
    """Makes every figure that the search has data for."""
    trials = list(run.history.trials.values())
    best, names = run.best, run.names
    baselines = [each for each in run.history.baselines.values() if each.value is not None]
    others = [each.value for each in baselines if each.value is not None]
    history = with_baselines(plots.history_plot(trials, names, others), baselines)
    figures: Figures = {"history": (history, 380)}
    for id_, key in (pair for slices in slices_of(run).values() for pair in slices.items()):
        title = leaf_name(key, run.space.branches, names)
        figures[id_] = (plots.slice_plot(key, run.dimensions[key], trials, best, names, title), 250)
    for id_, importance in zip(importance_ids(importances), importances, strict=True):
        if importance.shares:
            figures[id_] = (plots.importance_plot(importance.shares), 70 + 34 * len(importance.shares))
    figures |= _pair_figures(run, importances)
    if spans := spans_of(run.events, run.history):
        figures["timeline"] = (timeline_plot(spans), timeline_px(spans))
    common = common_dimensions(run.space)
    is_together = len(common) > 1 or not run.space.branches.alternatives
    if is_together and (parallel := parallel_plot(common, trials, names)) is not None:
        figures["parallel-plot"] = (parallel, 360)
    if best is not None:
        num_leaders = min(plots.MAX_LEADERS, run.history.count("complete"))
        figures["leaders"] = (plots.leaders_plot(trials, names), 110 + 28 * num_leaders)
        for id_, metric in curve_metrics(best).items():
            figures[id_] = (curve_plot(metric, best.folds), 230)
        for id_, term in loss_terms(best).items():
            figures[id_] = (plots.loss_plot(term, best.folds), 230)
    if any(trial.folds for trial in trials):
        num_folds = run.space.search.num_trial_folds
        figures["folds"] = (plots.folds_plot(trials, num_folds), 90 + (34 if num_folds <= 5 else 18) * num_folds)
    return figures


def _pair_figures(run: SearchRun, importances: Sequence[Importance]) -> Figures:
    figures: Figures = {}
    groups = groups_of(run.space, run.history.trials.values(), run.names)
    for number, (group, importance) in enumerate(zip(groups, importances, strict=True)):
        for pair, (contour, ranks) in enumerate(pair_plots(group, importance)):
            if contour is not None:
                figures[f"contour-{number}-{pair}"] = (contour, PAIR_PX)
            figures[f"ranks-{number}-{pair}"] = (ranks, PAIR_PX)
    return figures


def pair_ids(importances: Sequence[Importance], figures: Figures) -> dict[str, list[str]]:
    """The ids of the contours and plots of ranks by the condition of their trials, in the order of their pairs."""
    found = {}
    for number, importance in enumerate(importances):
        if ids := [id_ for id_ in figures if id_.startswith((f"contour-{number}-", f"ranks-{number}-"))]:
            found[importance.condition] = ids
    return found


def importance_ids(importances: Sequence[Importance]) -> list[str]:
    """The ids of the figures of importance, in order."""
    return [IMPORTANCE, *(f"{IMPORTANCE}-{position}" for position in range(1, len(importances)))]


def slices_of(run: SearchRun) -> dict[str, dict[str, str]]:
    """Groups the dimensions by their condition, in words: "" for those that every trial has, then `method = smile`.

    Of each the id of its figure is mapped to its key. Alternatives that no trial with a score has are left out.
    """
    groups: dict[str, dict[str, str]] = {"": {}}
    tried = {key for trial in run.history.trials.values() if trial.folds for key in trial.params}
    for position, key in enumerate(run.dimensions):
        condition = run.space.branches.labels_of(key)
        if not condition or key in tried:
            groups.setdefault(condition, {})[f"slice-{position}"] = key
    return groups


def loss_terms(best: TrialRecord | None) -> dict[str, str]:
    """Names each term that the best trial has a curve of, by the id of its figure."""
    folds = [] if best is None else best.folds
    terms = dict.fromkeys(term for fold in folds for term in fold.loss_terms)
    return {f"loss-{position}": term for position, term in enumerate(terms)}


def figures_as_json(figures: Figures) -> str:
    """Encodes the figures as JSON that may stand in a script element: plotly escapes `<`, `>` and `/`."""
    return str(to_json_plotly({id_: figure.to_plotly_json() for id_, (figure, _) in figures.items()}))


@cache
def packed_plotly() -> str:
    """Packs plotly.js as base64 of gzip, which is less than half as long as the script."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
