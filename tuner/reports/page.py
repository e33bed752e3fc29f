"""The report of a search: one page that needs nothing else. Whatever a user wrote is escaped by the templates."""

from __future__ import annotations

import base64
import gzip
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from shlex import quote
from typing import Any, get_args
from urllib.parse import quote as url_quote

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from tuner.experiment.dimensions import spell
from tuner.experiment.search_experiment import dump_experiment
from tuner.experiment.tree import flatten
from tuner.messages.wording import clock
from tuner.record.history import TrialRecord, TrialState
from tuner.record.selection import mean_and_sd
from tuner.reports import plots
from tuner.reports.importance import Importance, importance_of, parallel_plot
from tuner.reports.page_templates import TEMPLATES
from tuner.reports.search_run import SearchRun, best_space

STATES: tuple[TrialState, ...] = get_args(TrialState)
Figures = dict[str, tuple[go.Figure, int]]
"""Figures by the id of their place on the page, each with its height in pixels."""


def report_page(run: SearchRun) -> str:
    """The report as HTML."""
    importance = importance_of(run.dimensions, run.history.trials.values())
    figures = figures_of(run, importance)
    best = run.best
    alone = best_space(run)
    yaml = "" if alone is None else dump_experiment(alone)
    return TEMPLATES.get_template("report.html").render(
        title=run.space.name,
        subtitle=_subtitle(run),
        tiles=list(_tiles(run)),
        best=best,
        best_params=[] if best is None else [(name, _short(value)) for name, value in best.params.items()],
        ending=_ending(run),
        warm_start=_warm_start(run),
        contents=list(_contents(run, figures)),
        heights={id_: height for id_, (_, height) in figures.items()},
        slices=[id_ for id_ in figures if id_.startswith("slice-")],
        importance=importance.said,
        racing=racing_sentence(run),
        stopped_at=list(_stopped_at(run)),
        losses=[(id_, term) for id_, term in _loss_terms(best).items()],
        counts=", ".join(f"{run.history.count(state)} {state}" for state in STATES if run.history.count(state))
        or "None has begun",
        failures=list(_failures(run.history.trials.values())),
        headings=list(_headings(run)),
        rows=[_row(trial, run) for trial in run.history.trials.values()],
        yaml=yaml,
        yaml_link=f"data:text/yaml;charset=utf-8,{url_quote(yaml)}",
        going_on=list(_going_on(run)),
        facts=list(_facts(run)),
        figures=Markup(_as_json(figures)),
        plotly=Markup(_packed_plotly()),
    )


def figures_of(run: SearchRun, importance: Importance) -> Figures:
    """Every figure that there is something to draw for."""
    trials = list(run.history.trials.values())
    best = run.best
    figures: Figures = {"history": (plots.history_plot(trials), 380)}
    for position, (name, dimension) in enumerate(run.dimensions.items()):
        figures[f"slice-{position}"] = (plots.slice_plot(name, dimension, trials, best), 250)
    if importance.shares:
        figures["importance-plot"] = (plots.importance_plot(importance.shares), 70 + 34 * len(importance.shares))
    if (parallel := parallel_plot(run.dimensions, trials)) is not None:
        figures["parallel-plot"] = (parallel, 360)
    if best is not None:
        num_leaders = min(plots.MAX_LEADERS, run.history.count("complete"))
        figures["leaders"] = (plots.leaders_plot(trials), 110 + 28 * num_leaders)
        for id_, term in _loss_terms(best).items():
            figures[id_] = (plots.loss_plot(term, best.folds), 230)
    if any(trial.folds for trial in trials):
        num_folds = run.space.search.folds
        figures["folds"] = (plots.folds_plot(trials, num_folds), 90 + 34 * num_folds)
    return figures


def racing_sentence(run: SearchRun) -> str:
    """What was trained of what the trials would have taken whole, and where the rest has gone."""
    trials, folds = list(run.history.trials.values()), run.space.search.folds
    whole = folds * len(trials)
    trained = sum(trial.trained for trial in trials)
    left = {state: sum(folds - t.trained for t in trials if t.state == state) for state in STATES}
    stopped = run.history.count("pruned")
    if not stopped:
        said = f"{trained:g} of {whole} fold trainings were done. No trial was stopped early"
        said += "; racing was off." if run.space.search.racing.rule == "none" else "."
    else:
        said = (
            f"{trained:g} of {whole} fold trainings were done: racing spared {left['pruned']:g} of them "
            f"({left['pruned'] / whole:.0%}) by stopping {_counted(stopped, 'trial')} early."
        )
    others = ((left["failed"], "are missing of trials that failed"), (left["running"], "are still to come"))
    return said + "".join(f" {count:g} {text}." for count, text in others if count)


def _stopped_at(run: SearchRun) -> Iterator[str]:
    places: Counter[tuple[int, int]] = Counter()
    for trial in run.history.trials.values():
        if trial.state == "pruned":
            steps = [rung["step"] for rung in trial.rungs if rung["fold"] > len(trial.folds)]
            places[len(trial.folds), max(steps, default=0)] += 1
    for (folds, step), count in sorted(places.items()):
        where = f"in fold {folds + 1}, after {step} steps" if step else f"after fold {folds}"
        yield f"{_counted(count, 'trial')} {where}"


def _subtitle(run: SearchRun) -> str:
    fixed = run.space.fixed
    searched = f"{_counted(len(run.dimensions), 'dimension')} of" if run.dimensions else "one configuration of"
    method = fixed["method"].get("name", "a searched method")
    backbone, dataset = fixed["backbone"].get("name", "searched backbones"), fixed["data"].get("dataset", "")
    started = run.history.started or {}
    when = _local_time(started["time_s"]) if "time_s" in started else ""
    return " · ".join(filter(None, (f"{searched} {method}", f"{backbone} on {dataset}", f"begun {when}")))


def _tiles(run: SearchRun) -> Iterator[dict[str, str]]:
    outcome, history, best = run.outcome, run.history, run.best
    if best is not None:
        mean, sd = mean_and_sd(best.fold_scores)
        yield _tile("Validation top-1", f"{mean:.4f}", f"± {sd or 0.0:.4f} over {len(best.folds)} folds")
    else:
        yield _tile("Validation top-1", "–", "no trial has trained every fold")
    if outcome.test_top1_mean is not None:
        spread = "" if outcome.test_top1_sd is None else f"± {outcome.test_top1_sd:.4f} over "
        yield _tile(
            "Test top-1", f"{outcome.test_top1_mean:.4f}", f"{spread}{_counted(len(outcome.test_scores), 'seed')}"
        )
    asked = run.space.search.trials if run.dimensions else 1
    others = (f"{history.count(state)} {state}" for state in STATES if history.count(state))
    yield _tile("Trials", f"{len(history.trials)} of {asked}", ", ".join(others) or "none has begun")
    trained, folds = sum(trial.trained for trial in history.trials.values()), run.space.search.folds
    yield _tile("Fold trainings", f"{trained:g}", f"of {folds * len(history.trials)} that whole trials would take")
    yield _tile("Time", clock(run.seconds), "from first to last event, without pauses")


def _tile(what: str, value: str, more: str) -> dict[str, str]:
    return {"what": what, "value": value, "more": more}


def _ending(run: SearchRun) -> str:
    if run.is_running:
        return "The search is running; this is how it stands."
    if run.history.finished is None:
        return "The search was cut off: its process died before it could say why."
    return f"Why it ended: {run.history.finished['why']}."


def _warm_start(run: SearchRun) -> str:
    event = run.history.warm_started
    return "" if event is None else f"It began with what {_counted(len(event['trials']), 'earlier trial')} had taught."


def _contents(run: SearchRun, figures: Figures) -> Iterator[tuple[str, str]]:
    yield "how-it-went", "How it went"
    if run.dimensions:
        yield from (("dimensions", "Dimensions"), ("importance", "Importance"))
    for id_, section, name in (
        ("parallel-plot", "together", "Together"),
        ("leaders", "leading", "Leaders"),
        ("folds", "racing", "Racing"),
        ("loss-0", "losses", "Losses"),
    ):
        if id_ in figures:
            yield section, name
    yield "trials", "All trials"
    if run.best is not None:
        yield "best-configuration", "Best configuration"
    yield from (("going-on", "How to go on"), ("environment", "Where it ran"))


def _loss_terms(best: TrialRecord | None) -> dict[str, str]:
    """Id → name of each term that the best trial has a curve of."""
    folds = [] if best is None else best.folds
    terms = dict.fromkeys(term for fold in folds for term in fold.get("loss_terms", {}))
    return {f"loss-{position}": term for position, term in enumerate(terms)}


def _failures(trials: Iterable[TrialRecord]) -> Iterator[tuple[str, str]]:
    """Reason → who failed of it, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state == "failed":
            by_reason.setdefault(trial.reason, []).append(trial.trial_id)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield reason, ", ".join(names[:5]) + more


def _headings(run: SearchRun) -> Iterator[tuple[str, bool]]:
    """Of the table of trials, each with whether what stands below it is text, not a number."""
    yield from (("trial", True), ("state", True), ("top-1", False), ("folds", True))
    yield from ((name, False) for name in run.dimensions)
    yield from (("training", False), ("source", True), ("reason", True))


def _row(trial: TrialRecord, run: SearchRun) -> dict[str, Any]:
    seconds = sum(fold["duration_s"] for fold in trial.folds)
    values = (trial.params.get(name, "") for name in run.dimensions)
    return {
        "trial": trial,
        "mean": None if trial.val_top1 is None else f"{trial.val_top1:.4f}",
        "folds": " ".join(f"{score:.4f}" for score in trial.fold_scores),
        "params": [{"exact": value, "shown": _short(value)} for value in values],
        "seconds": seconds or "",
        "took": clock(seconds) if seconds else "–",
        "source": trial.source.replace("_", " "),
    }


def _going_on(run: SearchRun) -> Iterator[tuple[str, str]]:
    directory, outcome = quote(str(run.directory)), run.outcome
    store = quote(outcome.tracking_uri)
    if not run.is_running:
        trials = f" --trials {2 * run.space.search.trials}" if run.dimensions else ""
        yield "Go on with it, with more trials", f"python -m tuner.search --resume {directory}{trials}"
    if outcome.model_uri:
        line = f"python -m tuner.predict --model {quote(outcome.model_uri)} --tracking-uri {store} photo.jpg"
        yield "Ask its model", line
    if outcome.tracking_uri and not outcome.tracking_uri.startswith(("http://", "https://")):
        yield "Look at it in MLflow", f"python -m tuner.ui --tracking-uri {store}"
    yield "Write this page anew", f"python -m tuner.report {directory}"


def _facts(run: SearchRun) -> Iterator[tuple[str, str]]:
    known: Mapping[str, Any] = run.environment
    yield "experiment directory", str(run.directory)
    for key, name in (("tracking_uri", "MLflow"), ("command", "command"), ("platform", "machine"), ("cpus", "cores")):
        if key in known:
            yield name, str(known[key])
    packages = {"Python": known["python"]} if "python" in known else {}
    packages |= known.get("packages", {})
    if packages:
        yield "versions", ", ".join(f"{name} {version}" for name, version in packages.items())
    for name, dimension in run.dimensions.items():
        yield f"searched: {name}", spell(dimension)
    search = flatten(run.space.search.model_dump(mode="json", exclude={"first_points"}, exclude_none=True))
    yield "search", ", ".join(f"{key} {_short(value)}" for key, value in search.items() if value != [])


def _as_json(figures: Figures) -> str:
    """The figures as JSON that may stand in a script element: plotly's encoder escapes `<`, `>` and `/`."""
    return str(to_json_plotly({id_: figure.to_plotly_json() for id_, (figure, _) in figures.items()}))


@cache
def _packed_plotly() -> str:
    """plotly.js, once. Packed it is less than half as long."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))
