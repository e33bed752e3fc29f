"""The page that compares searches: a table, best scores over time, differences of the models, and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from tuner.experiment.objective import Objective
from tuner.messages.wording import counted, shorten
from tuner.record.baselines import LABELS as BASELINES
from tuner.record.differences import spell_difference
from tuner.reports.figures import figures_as_json, packed_plotly
from tuner.reports.page_templates import REFRESH_S, TEMPLATES
from tuner.reports.plot_layout import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, new_figure, score_axis
from tuner.reports.search_comparison import ModelDifference, SearchComparison, SearchRow, best_so_far, compare_searches
from tuner.reports.search_run import SearchRun
from tuner.reports.trial_table import short

COLORS = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
DASHES = ("solid", "dash", "dot")
MAX_SETTING_CHARACTERS = 160


def comparison_page(runs: Sequence[SearchRun]) -> str:
    """Renders the page that compares searches as HTML. Raises BadInput where a configuration cannot be read."""
    comparison = compare_searches(runs)
    figures = dict(_figures(runs))
    return TEMPLATES.get_template("searches.html").render(
        title=f"{len(runs)} searches compared",
        refresh_s=REFRESH_S if any(run.is_running for run in runs) else 0,
        names=names_of(runs),
        rows=list(_rows(comparison)),
        differences=[(each.run, difference_sentence(each)) for each in comparison.differences],
        reference=comparison.searches[0].run,
        settings=[(path, [_setting(value) for value in values]) for path, values in comparison.settings.items()],
        heights={id_: height for id_, (_, height) in figures.items()},
        figures=Markup(figures_as_json(figures)),
        plotly=Markup(packed_plotly()),
    )


def names_of(runs: Sequence[SearchRun]) -> list[str]:
    """Names of the searches on the page: those of their experiments, with the run where two are alike."""
    names = [run.space.name for run in runs]
    return [name if names.count(name) == 1 else run.directory.full_name for name, run in zip(names, runs, strict=True)]


def _rows(comparison: SearchComparison) -> Iterator[tuple[str, list[str]]]:
    """Yields the rows of the table: a title, and the value in each search."""
    rows = comparison.searches
    labels = {str(name): label for name, label in BASELINES.items()}
    yield "state", [row.state for row in rows]
    yield "test top-1, model (95 %)", [_or_dash(row.model_test_top1) for row in rows]
    yield "test top-1, best trial (± sd over seeds)", [_mean_and_sd(row) for row in rows]
    for name in dict.fromkeys(name for row in rows for name in row.baselines):
        yield f"test top-1, {labels[name]}", [_score(row.baselines.get(name)) for row in rows]
    yield "best validation score", [_validation(row) for row in rows]
    yield "winner", [_or_dash(row.winner) for row in rows]
    yield "its method", [row.method or "–" for row in rows]
    yield "trials", [str(row.num_trials) for row in rows]
    yield "minutes", [f"{row.minutes:.1f}" for row in rows]


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _mean_and_sd(row: SearchRow) -> str:
    if row.test_top1_mean is None:
        return "–"
    spread = "" if row.test_top1_sd is None else f" ± {row.test_top1_sd:.4f}"
    return f"{row.test_top1_mean:.4f}{spread} ({counted(row.num_seeds, 'seed')})"


def _validation(row: SearchRow) -> str:
    return "–" if row.val_score is None else f"{Objective(row.objective).label} {row.val_score:.4f}"


def difference_sentence(each: ModelDifference) -> str:
    """Says by how much a model is better on the test images than that of the first search, or why that is unknown."""
    if each.difference is None:
        return f"cannot be compared: {each.why}"
    return spell_difference(each.difference, "test image")


def _setting(value: Any) -> str:
    return "–" if value is None else shorten(short(value), MAX_SETTING_CHARACTERS)


def _figures(runs: Sequence[SearchRun]) -> Iterator[tuple[str, tuple[go.Figure, int]]]:
    """Yields a figure of the best scores for each objective, since those of two have no common axis."""
    for number, name in enumerate(dict.fromkeys(run.history.objective.name for run in runs)):
        same = [(label, run) for label, run in zip(names_of(runs), runs, strict=True) if _optimises(run, name)]
        if any(best_so_far(run) for _, run in same):
            yield f"best-{number}", (best_plot(same), 420)


def _optimises(run: SearchRun, name: str) -> bool:
    return run.history.objective.name == name


def best_plot(runs: Sequence[tuple[str, SearchRun]]) -> go.Figure:
    """Plots the best validation score so far over the minutes of work, a line for each search up to its last event."""
    points = [best_so_far(run) for _, run in runs]
    objective = runs[0][1].history.objective
    axis = score_axis((value for line in points for _, value in line), objective.is_share)
    figure = new_figure(xaxis_title="minutes of work", yaxis=axis, yaxis_title=f"validation {objective.label}")
    figure.update_xaxes(rangemode="tozero")
    for position, ((name, run), line) in enumerate(zip(runs, points, strict=True)):
        if line:
            last = [(run.duration_s, line[-1][1])]
            color, dash = COLORS[position % len(COLORS)], DASHES[position // len(COLORS) % len(DASHES)]
            figure.add_scatter(
                x=[seconds / 60 for seconds, _ in [*line, *last]],
                y=[value for _, value in [*line, *last]],
                mode="lines+markers",
                line={"color": color, "width": 2, "shape": "hv", "dash": dash},
                marker={"size": [7] * len(line) + [0]},
                name=escape(name),
                hovertemplate="%{x:.1f} min: %{y:.4f}<extra></extra>",
            )
    return figure
