"""The report of a search as one HTML page that loads nothing else. The templates escape whatever a user wrote."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote as url_quote

from markupsafe import Markup

from tuner.experiment.objective import TOP1
from tuner.experiment.tree import by_short_name, flatten
from tuner.messages.invocation import command_line
from tuner.messages.wording import clock, counted, spell_scores
from tuner.record.baselines import BaselineRecord
from tuner.record.events import TrialState
from tuner.record.history import TrialRecord
from tuner.record.selection import mean_and_sd
from tuner.reports.baseline_panel import baseline_rows
from tuner.reports.curves import curve_label, curve_metrics, curves_note
from tuner.reports.evaluation import model_evaluation
from tuner.reports.evaluation_panel import EvaluationPanel, confusion_plot, evaluation_panel, reliability_plot
from tuner.reports.figures import (
    Figures,
    figures_as_json,
    figures_of,
    importance_ids,
    loss_terms,
    packed_plotly,
    slices_of,
)
from tuner.reports.importance import importances_of
from tuner.reports.mistakes import ON_PAGE, grouped, read_mistakes
from tuner.reports.page_templates import TEMPLATES
from tuner.reports.search_run import SearchRun, best_yaml

STATES: tuple[TrialState, ...] = get_args(TrialState)


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page: its title, its value, and a line of explanation."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Heading:
    """A heading of the table of trials; `is_text` tells a column of texts from one of numbers."""

    name: str
    is_text: bool


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table: exact values to sort by, and short ones to be read."""

    trial: TrialRecord
    mean: str | None
    folds: str
    params: list[tuple[Any, str]]
    """Exact value and short text of each dimension."""
    duration_s: float | None
    duration: str
    source: str


def report_page(run: SearchRun) -> str:
    """Renders the report as HTML."""
    importances = importances_of(run.space, run.history.trials.values(), run.names)
    figures = figures_of(run, importances)
    model = _model_panel(run)
    if model is not None:
        side_px = 160 + 26 * min(len(model.classes), 60)
        figures |= {"confusion": (confusion_plot(model), side_px), "reliability": (reliability_plot(model), 340)}
    best = run.best
    yaml = best_yaml(run) or ""
    return TEMPLATES.get_template("report.html").render(
        title=run.space.name,
        subtitle=_subtitle(run),
        tiles=list(_tiles(run)),
        best=best,
        best_params=[] if best is None else _best_params(best, run),
        baselines=list(baseline_rows(run.result)),
        model=model,
        better_baseline=run.winner.label if isinstance(run.winner, BaselineRecord) else "",
        ending=_ending(run),
        warm_start=_warm_start(run),
        contents=list(_contents(run, figures)),
        heights={id_: height for id_, (_, height) in figures.items()},
        slices={condition: list(ids) for condition, ids in slices_of(run).items() if ids},
        importances=list(zip(importance_ids(importances), importances, strict=True)),
        has_alternatives=bool(run.space.branches.alternatives),
        racing=racing_sentence(run),
        stopped_at=list(_stopped_at(run)),
        curves=[(id_, curve_label(name)) for id_, name in curve_metrics(best).items()],
        curves_note=curves_note(run.history.objective, best),
        losses=list(loss_terms(best).items()),
        counts=", ".join(f"{run.history.count(state)} {state}" for state in STATES if run.history.count(state))
        or "None has begun",
        failures=list(_failures(run.history.trials.values())),
        headings=list(_headings(run)),
        rows=[_row(trial, run) for trial in run.history.trials.values()],
        yaml=yaml,
        best_command=command_line("search", "--space", run.directory.best_space),
        yaml_link=f"data:text/yaml;charset=utf-8,{url_quote(yaml)}",
        going_on=list(_going_on(run)),
        facts=list(_facts(run)),
        figures=Markup(figures_as_json(figures)),
        plotly=Markup(packed_plotly()),
    )


def _model_panel(run: SearchRun) -> EvaluationPanel | None:
    evaluation = model_evaluation(run.directory, run.history)
    if evaluation is None:
        return None
    return evaluation_panel(evaluation, grouped(read_mistakes(run.directory), ON_PAGE))


def racing_sentence(run: SearchRun) -> str:
    """Says how many fold trainings were done, how many racing spared, and why others are missing."""
    trials, folds = list(run.history.trials.values()), run.space.search.num_trial_folds
    whole = folds * len(trials)
    trained = sum(trial.num_trained for trial in trials)
    left = {state: sum(folds - t.num_trained for t in trials if t.state == state) for state in STATES}
    stopped = run.history.count("pruned")
    if not stopped:
        sentence = f"{trained:g} of {whole} fold trainings were done. No trial was stopped early"
        sentence += "; racing was off." if run.space.search.racing.rule == "none" else "."
    else:
        sentence = (
            f"{trained:g} of {whole} fold trainings were done: racing spared {left['pruned']:g} of them "
            f"({left['pruned'] / whole:.0%}) by stopping {counted(stopped, 'trial')} early."
        )
    others = ((left["failed"], "are missing of trials that failed"), (left["running"], "are still to come"))
    return sentence + "".join(f" {count:g} {text}." for count, text in others if count)


def _stopped_at(run: SearchRun) -> Iterator[str]:
    places: Counter[tuple[int, int]] = Counter()
    for trial in run.history.trials.values():
        if trial.state == "pruned":
            steps = [rung.step for rung in trial.rungs if rung.fold > len(trial.folds)]
            places[len(trial.folds), max(steps, default=0)] += 1
    for (folds, step), count in sorted(places.items()):
        where = f"in fold {folds + 1}, after {step} steps" if step else f"after fold {folds}"
        yield f"{counted(count, 'trial')} {where}"


def _subtitle(run: SearchRun) -> str:
    searched = f"{counted(len(run.dimensions), 'dimension')} of" if run.dimensions else "one configuration of"
    method = _fixed_or_listed(run, "method", "name") or "a searched method"
    backbone = _fixed_or_listed(run, "backbone", "name") or "searched backbones"
    dataset = _fixed_or_listed(run, "data", "dataset")
    started = run.history.started
    when = "" if started is None else f"begun {_local_time(started.time_s)}"
    return " · ".join(filter(None, (f"{searched} {method}", f"{backbone} on {dataset}", when)))


def _fixed_or_listed(run: SearchRun, section: str, key: str) -> str:
    """What a section fixes, or the labels of its alternatives; "" where it is a dimension."""
    fixed = run.space.fixed[section].get(key)
    if fixed is not None or section not in run.space.branches.alternatives:
        return str(fixed or "")
    return " or ".join(run.space.branches.alternatives[section].fixed)


def _tiles(run: SearchRun) -> Iterator[Tile]:
    result, history, best = run.result, run.history, run.best
    if best is not None:
        mean, sd = mean_and_sd(best.fold_values)
        top1 = "" if best.objective == TOP1 else f", top-1 {best.val_top1:.4f}"
        note = f"± {sd or 0.0:.4f} over {len(best.folds)} folds{top1}"
        yield Tile(f"Validation {best.objective.label}", f"{mean:.4f}", note)
    else:
        yield Tile(f"Validation {history.objective.label}", "–", "no trial has trained every fold")
    if result.test_top1_mean is not None:
        spread = "" if result.test_top1_sd is None else f"± {result.test_top1_sd:.4f} over "
        yield Tile("Test top-1", f"{result.test_top1_mean:.4f}", f"{spread}{counted(len(result.test_scores), 'seed')}")
    if (ensemble := result.ensemble) is not None:
        note = f"mean {ensemble.mean_of} of {ensemble.num_networks} networks"
        yield Tile("Test top-1 of the model", f"{ensemble.test_top1:.4f}", note)
    others = (f"{history.count(state)} {state}" for state in STATES if history.count(state))
    yield Tile("Trials", _of(len(history.trials), run.num_trials), ", ".join(others) or "none has begun")
    trained, folds = sum(trial.num_trained for trial in history.trials.values()), run.space.search.num_trial_folds
    yield Tile("Fold trainings", f"{trained:g}", f"of {folds * len(history.trials)} that whole trials would take")
    yield Tile("Time", clock(run.duration_s), "from first to last event, without pauses")


def _of(count: int, limit: int | None) -> str:
    return str(count) if limit is None else f"{count} of {limit}"


def _ending(run: SearchRun) -> str:
    if run.is_running:
        return "The search is running; this is how it stands."
    if run.history.ended is None:
        return "The search was cut off: its process was killed, so no reason is recorded."
    return f"Why it ended: {run.history.ended.why or run.history.ended.outcome}."


def _warm_start(run: SearchRun) -> str:
    event = run.history.warm_started
    return "" if event is None else f"It began with what {counted(len(event.trials), 'earlier trial')} had taught."


def _contents(run: SearchRun, figures: Figures) -> Iterator[tuple[str, str]]:
    if run.history.baselines:
        yield "baselines", "Baselines"
    if "confusion" in figures:
        yield from (
            ("model", "The model"),
            ("mistakes", "Mistakes"),
            ("classes", "Classes"),
            ("calibration", "Calibration"),
        )
    yield "how-it-went", "How it went"
    if run.dimensions:
        yield from (("dimensions", "Dimensions"), ("importance", "Importance"))
    for id_, section, name in (
        ("parallel-plot", "together", "Together"),
        ("leaders", "leading", "Leaders"),
        ("folds", "racing", "Racing"),
        ("curve-top1", "curves", "Learning curves"),
        ("loss-0", "losses", "Losses"),
    ):
        if id_ in figures:
            yield section, name
    yield "trials", "All trials"
    if run.winner is not None:
        yield "best-configuration", "Best configuration"
    yield from (("going-on", "How to go on"), ("environment", "Where it ran"))


def _failures(trials: Iterable[TrialRecord]) -> Iterator[tuple[str, str]]:
    """Yields each reason and the trials that failed of it, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state == "failed":
            by_reason.setdefault(trial.reason, []).append(trial.trial_id)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield reason, ", ".join(names[:5]) + more


def _headings(run: SearchRun) -> Iterator[Heading]:
    for name in ("trial", "state"):
        yield Heading(name, is_text=True)
    yield Heading(run.history.objective.label, is_text=False)
    yield Heading("folds", is_text=True)
    for name in run.names.values():
        yield Heading(name, is_text=False)
    yield Heading("training", is_text=False)
    for name in ("source", "reason"):
        yield Heading(name, is_text=True)


def _row(trial: TrialRecord, run: SearchRun) -> TrialRow:
    duration_s = trial.training_duration_s
    values = [trial.params.get(path, "") for path in run.dimensions]
    return TrialRow(
        trial=trial,
        mean=None if trial.value is None else f"{trial.value:.4f}",
        folds=spell_scores(trial.fold_values),
        params=[(value, _short(value)) for value in values],
        duration_s=duration_s or None,
        duration=clock(duration_s) if duration_s else "–",
        source=trial.source.replace("_", " "),
    )


def _best_params(best: TrialRecord, run: SearchRun) -> list[tuple[str, str]]:
    return [(name, _short(value)) for name, value in by_short_name(best.params, run.names).items()]


def _going_on(run: SearchRun) -> Iterator[tuple[str, str]]:
    directory, result = run.directory, run.result
    store = ("--tracking-uri", result.tracking_uri)
    if not run.is_running:
        trials = ("--trials", 2 * run.num_trials) if run.dimensions and run.num_trials is not None else ()
        yield "Go on with it, with more trials", command_line("search", "--resume", directory, *trials)
    if result.model_uri:
        yield "Ask its model", command_line("predict", "--model", result.model_uri, *store, "photo.jpg")
    if result.tracking_uri and not result.tracking_uri.startswith(("http://", "https://")):
        yield "Look at it in MLflow", command_line("ui", *store)
    yield "Write this page anew", command_line("report", directory)


def _facts(run: SearchRun) -> Iterator[tuple[str, str]]:
    known = run.environment
    yield "experiment directory", str(run.directory)
    cores = "" if known.cpus is None else str(known.cpus)
    for name, value in (
        ("MLflow", known.tracking_uri),
        ("command", known.command),
        ("machine", known.platform),
        ("cores", cores),
    ):
        if value:
            yield name, value
    packages = ({"Python": known.python} if known.python else {}) | known.packages
    if packages:
        yield "versions", ", ".join(f"{name} {version}" for name, version in packages.items())
    if run.history.data_findings is not None and run.history.data_findings.grouping:
        yield "groups", run.history.data_findings.grouping
    for key, words in run.space.dimension_words.items():
        yield f"searched: {run.names[key]}", words
    search = flatten(run.space.search.model_dump(mode="json", exclude={"first_points"}, exclude_none=True))
    yield "search", ", ".join(f"{key} {_short(value)}" for key, value in search.items() if value != [])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))
