"""Learning from earlier searches.

A trial of an earlier search is evidence for the sampler, as it ended, where its score is a score of the same thing:
everything that this search fixes had the same value in it, dataset, backbone, method, training, folds and seed. What
this search varies, the earlier one may have varied, over another range or not at all: its value counts where it lies
within the range of now. So trials outside of a range that has become smaller are left out, and a dimension that is new
stands at the value that was fixed then.

Where no trial of an earlier search is comparable, its scores say nothing here, but its best configurations may well be
good: those that lie within the ranges are tried first. What this search has and the earlier one had not, the sampler
adds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.errors import BadInput, Problem
from tuner.experiment.dimensions import contains
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import tracking_uri
from tuner.experiment.tree import flatten, set_leaf
from tuner.record.events import read_events
from tuner.record.find import runs_below
from tuner.record.history import EarlierSearch, History, TrialRecord
from tuner.record.journal import Journal
from tuner.tracking.earlier_search import read_search

MAX_FIRST_POINTS = 3
"""So many of the best configurations of an incomparable search are tried first: each costs a whole trial."""

LEARNS_FROM_ITSELF = ("random", "cmaes")
"""Samplers that take no evidence but that of their own proposals, if any."""

CHANGES_NO_SCORE = ("data.download", "data.check_counts")


@dataclass
class WarmStart:
    """What earlier searches teach, as the event `warm_started` keeps it: trials for the sampler, points to try first,
    both by short names, and what is said of it."""

    trials: list[dict[str, Any]] = field(default_factory=list)
    first_points: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def apply_warm_start(space: SearchExperiment, journal: Journal) -> list[str]:
    """Writes what earlier searches teach into the journal of a search that is about to begin, which needs them no more
    then. Returns what is to be said of it; nothing where there is nothing new.

    Raises:
        BadInput: where an earlier search is not to be found.
    """
    history = journal.history
    if not space.search.warm_start or history.warm_started is not None or history.trials:
        return []
    warm_start = collect_warm_start(space, excluding=journal.directory)
    journal.append("warm_started", **asdict(warm_start))
    return warm_start.said


def collect_warm_start(space: SearchExperiment, excluding: Path | None = None) -> WarmStart:
    """What the searches in `search.warm_start` teach; `excluding` is the directory of the search that asks.

    Raises:
        BadInput: naming every one that is not to be found.
    """
    learnt = WarmStart()
    problems: list[Problem] = []
    for run in space.search.warm_start:
        try:
            _learn_from(find(run, space, excluding), space, learnt)
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(problems).in_file(space.file)
    if learnt.trials and space.search.sampler in LEARNS_FROM_ITSELF:
        learnt.said.append(f"the sampler {space.search.sampler} learns nothing from them; they are not tried again")
    return learnt


def find(run: str, space: SearchExperiment, excluding: Path | None = None) -> EarlierSearch:
    """An earlier search by its directory, by `name` (its latest run) or `name/run` below `tracking.directory`, or by
    the id of its MLflow run. Raises BadInput for none."""
    folder = space.tracking.directory
    for directory in (Path(run), folder / run):
        for journal in _journals(directory, excluding):
            return _from_disk(journal)
    if re.fullmatch("[0-9a-f]{32}", run):
        return read_search(tracking_uri(space.tracking.uri), run)
    expected = f"an experiment directory, a search or run below {folder}, or the id of a search's MLflow run"
    raise BadInput(Problem("search.warm_start", expected, repr(run)))


def _journals(directory: Path, excluding: Path | None) -> Iterator[Path]:
    """That of a run's directory, or those of a search's runs, the latest first."""
    candidates = [run / "journal.jsonl" for run in (directory, *reversed(runs_below(directory)))]
    inside = [] if excluding is None else excluding.resolve().parents
    for file in candidates:
        run = file.parent.resolve()
        if file.is_file() and run != (excluding and excluding.resolve()) and run not in inside:
            yield file


def _from_disk(file: Path) -> EarlierSearch:
    history, configs = History(), {}
    for event in read_events(file):
        history.apply(event)
        if event["event"] == "trial_started":
            configs[event["trial"]] = event.get("config", {})
    for trial in history.trials.values():
        trial.params = configs[trial.number]
    run = file.parent.resolve()
    num_folds = history.started["space"]["search"]["folds"] if history.started is not None else None
    return EarlierSearch(f"{run.parent.name}/{run.name}", num_folds, list(history.trials.values()))


def _learn_from(earlier: EarlierSearch, space: SearchExperiment, learnt: WarmStart) -> None:
    ended = [trial for trial in earlier.trials if trial.state != "running"]
    compared = [(trial, _Comparison.of(trial, earlier.num_folds, space)) for trial in ended]
    comparable = [(trial, found) for trial, found in compared if not found.differing]
    taken = [(trial, found) for trial, found in comparable if not found.outside]
    head = f"warm start from {earlier.label}:"
    if comparable or not ended:
        learnt.trials += [_as_said(earlier.label, trial, found.params) for trial, found in taken]
        left_out = "; ".join(_left_out(earlier, [found for _, found in compared]))
        said = f"{head} {len(taken)} of {len(earlier.trials)} trials taken"
        learnt.said.append(f"{said}; left out: {left_out}" if left_out else said)
        return
    complete = [(trial, found) for trial, found in compared if trial.state == "complete"]
    within = [(trial, found) for trial, found in complete if found.params and not found.outside]
    best = sorted(within, key=lambda pair: (-(pair[0].val_top1 or 0.0), pair[0].number))[:MAX_FIRST_POINTS]
    learnt.first_points += [found.params for _, found in best]
    names = ", ".join(trial.trial_id for trial, _ in best) or "none, since none lies within the ranges"
    different = _names(set.intersection(*(found.differing for _, found in compared))) or "something in each"
    learnt.said.append(f"{head} its scores are not comparable (different: {different}); tried first: {names}")


@dataclass(frozen=True)
class _Comparison:
    """A trial beside a search: what that fixes and the trial had otherwise, the dimensions of whose ranges it lies
    outside, and its values of all dimensions that it had."""

    differing: set[str]
    outside: set[str]
    params: dict[str, Any]

    @classmethod
    def of(cls, trial: TrialRecord, num_folds: int | None, space: SearchExperiment) -> _Comparison:
        config = _whole(trial.params)
        fixed = {**flatten(space.fixed), "seed": space.search.seed}
        keys = (fixed | config).keys() - space.dimensions.keys() - {*CHANGES_NO_SCORE}
        differing = {key for key in keys if fixed.get(key) != config.get(key)}
        differing |= space.dimensions.keys() - config.keys()
        if num_folds != space.search.folds:
            differing.add("search.folds")
        values = {path: config[path] for path in space.dimensions if path in config}
        outside = {space.short_names[p] for p, value in values.items() if not contains(space.dimensions[p], value)}
        return cls(differing, outside, {space.short_names[path]: value for path, value in values.items()})


def _whole(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with the defaults of settings that have come since; nothing of one that is invalid."""
    tree: dict[str, Any] = {}
    for path, value in config.items():
        set_leaf(tree, path, value)
    try:
        return flatten(TrialConfig.model_validate(tree).model_dump(mode="json"))
    except ValidationError:
        return {}


def _as_said(label: str, trial: TrialRecord, params: Mapping[str, Any]) -> dict[str, Any]:
    folds = [{"fold": fold["fold"], "val_top1": fold["val_top1"]} for fold in trial.folds]
    outcome = {"state": trial.state, "reason": trial.reason, "folds": folds, "rungs": trial.rungs}
    return {"of": f"{label} {trial.trial_id}", "params": dict(params), **outcome}


def _left_out(earlier: EarlierSearch, compared: Iterable[_Comparison]) -> Iterator[str]:
    """Why, with how many."""
    reasons = Counter(_why_left_out(found) for found in compared if found.differing or found.outside)
    reasons["unfinished"] += sum(trial.state == "running" for trial in earlier.trials)
    for reason, count in reasons.items():
        if count:
            yield f"{count} {reason}"


def _why_left_out(found: _Comparison) -> str:
    if found.differing:
        return f"different in {_names(found.differing)}"
    return f"outside of the range of {_names(found.outside)}"


def _names(keys: set[str], at_most: int = 4) -> str:
    names = sorted(keys)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
