"""The report of a search as one HTML page that loads nothing else. The templates escape whatever a user wrote."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote as url_quote

from markupsafe import Markup

from tuner.messages.invocation import command_line
from tuner.messages.wording import counted
from tuner.record.baselines import BaselineRecord
from tuner.reports.baseline_panel import baseline_rows
from tuner.reports.batch_preview import batch_picture
from tuner.reports.curves import curve_label, curve_metrics, curves_note
from tuner.reports.data_summary import data_facts, data_summary, data_warnings
from tuner.reports.evaluation import ModelEvaluation, model_evaluation
from tuner.reports.evaluation_panel import EvaluationPanel, confusion_plot, evaluation_panel, reliability_plot
from tuner.reports.figures import (
    Figures,
    figures_as_json,
    figures_of,
    importance_ids,
    loss_terms,
    packed_plotly,
    pair_ids,
    slices_of,
)
from tuner.reports.importance import importances_of
from tuner.reports.mistakes import ON_PAGE, grouped, read_mistakes
from tuner.reports.overview import best_params, ending, facts_of, model_sentence, next_steps, subtitle, tiles_of
from tuner.reports.page_templates import REFRESH_S, TEMPLATES
from tuner.reports.search_result import BASELINE_WON
from tuner.reports.search_run import SearchRun, best_yaml
from tuner.reports.trial_table import (
    failures_of,
    headings_of,
    racing_sentence,
    rows_of,
    state_counts,
    stopping_places,
)

SECTIONS = (
    ("history", "how-it-went", "How it went"),
    ("timeline", "when", "Timeline"),
    ("slice-", "dimensions", "Dimensions"),
    ("slice-", "importance", "Importance"),
    ("ranks-", "pairs", "Pairs"),
    ("parallel-plot", "together", "Together"),
    ("leaders", "leading", "Leaders"),
    ("folds", "racing", "Racing"),
)
"""Beginning of the ids of the figures, section and name of the parts about the search."""


def report_page(run: SearchRun) -> str:
    """Renders the report as HTML."""
    importances = importances_of(run.space, run.history.trials.values(), run.names)
    figures = figures_of(run, importances)
    evaluation = model_evaluation(run.directory, run.history)
    model = _model_panel(run, evaluation)
    if model is not None:
        side_px = 160 + 26 * min(len(model.classes), 60)
        figures |= {"confusion": (confusion_plot(model), side_px), "reliability": (reliability_plot(model), 340)}
    batch = batch_picture(run.directory)
    data, best, yaml = data_summary(run.directory), run.best, best_yaml(run) or ""
    return TEMPLATES.get_template("report.html").render(
        title=run.space.name,
        refresh_s=REFRESH_S if run.is_running else 0,
        subtitle=subtitle(run),
        tiles=list(tiles_of(run, evaluation)),
        best=best,
        best_params=best_params(best, run),
        model_sentence=model_sentence(run),
        better_baseline=run.winner.label if isinstance(run.winner, BaselineRecord) else "",
        baseline_won=BASELINE_WON,
        baselines=list(baseline_rows(run.result)),
        data=data,
        data_facts=list(data_facts(run, data)),
        data_warnings=data_warnings(run, data),
        next_steps=list(next_steps(run)),
        ending=ending(run),
        warm_start=_warm_start(run),
        contents=list(_contents(run, figures, has_batch=bool(batch))),
        model=model,
        batch=batch,
        heights={id_: height for id_, (_, height) in figures.items()},
        slices={condition: list(ids) for condition, ids in slices_of(run).items() if ids},
        importances=[
            (id_, importance)
            for id_, importance in zip(importance_ids(importances), importances, strict=True)
            if importance.shares or not importance.condition
        ],
        too_few=[importance.condition for importance in importances if importance.condition and not importance.shares],
        pairs=pair_ids(importances, figures),
        has_alternatives=bool(run.space.branches.alternatives),
        racing=racing_sentence(run),
        stopped_at=list(stopping_places(run)),
        curves=[(id_, curve_label(name)) for id_, name in curve_metrics(best).items()],
        curves_note=curves_note(run.history.objective, best),
        losses=list(loss_terms(best).items()),
        counts=state_counts(run) or "None has begun",
        failures=list(failures_of(run.history.trials.values())),
        headings=list(headings_of(run)),
        rows=rows_of(run),
        yaml=yaml,
        best_command=command_line("search", "--space", run.directory.best_space),
        yaml_link=f"data:text/yaml;charset=utf-8,{url_quote(yaml)}",
        facts=list(facts_of(run)),
        figures=Markup(figures_as_json(figures)),
        plotly=Markup(packed_plotly()),
    )


def _model_panel(run: SearchRun, evaluation: ModelEvaluation | None) -> EvaluationPanel | None:
    if evaluation is None:
        return None
    return evaluation_panel(evaluation, grouped(read_mistakes(run.directory), ON_PAGE))


def _warm_start(run: SearchRun) -> str:
    event = run.history.warm_started
    return "" if event is None else f"It began with what {counted(len(event.trials), 'earlier trial')} had taught."


def _contents(run: SearchRun, figures: Figures, has_batch: bool) -> Iterator[tuple[str, str]]:
    """Yields the id and the name of each section below the first screen."""
    if "confusion" in figures:
        yield from (
            ("model", "The model"),
            ("mistakes", "Mistakes"),
            ("classes", "Classes"),
            ("calibration", "Calibration"),
        )
    for id_, section, name in (("curve-top1", "curves", "Learning curves"), ("loss-0", "losses", "Losses")):
        if id_ in figures:
            yield section, name
    if has_batch:
        yield "batch", "A training batch"
    for beginning, section, name in SECTIONS:
        if any(id_.startswith(beginning) for id_ in figures):
            yield section, name
    yield "trials", "All trials"
    if run.winner is not None:
        yield "best-configuration", "Best configuration"
    yield "environment", "Where it ran"
