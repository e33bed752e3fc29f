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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.errors import BadInput, Problem
from tuner.experiment.dimensions import contains
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment
from tuner.experiment.settings import tracking_uri
from tuner.experiment.tree import flatten, set_leaf
from tuner.record.directory import RunDirectory
from tuner.record.events import EarlierTrial, FoldScore, Params, WarmStarted
from tuner.record.find import runs_below
from tuner.record.history import EarlierSearch, ObservedTrial, SearchHistory, TrialRecord
from tuner.record.journal import SearchJournal

MAX_FIRST_POINTS = 3
"""So many of the best configurations of an incomparable search are tried first: each costs a whole trial."""

LEARNS_FROM_ITSELF = ("random", "cmaes")
"""Samplers that take no evidence but that of their own proposals, if any."""

CHANGES_NO_SCORE = ("data.download", "data.check_counts")


@dataclass
class _Lessons:
    """What earlier searches teach, collected search by search; see `WarmStarted`."""

    trials: list[EarlierTrial] = field(default_factory=list)
    first_points: list[Params] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def apply_warm_start(space: SearchExperiment, journal: SearchJournal) -> tuple[str, ...]:
    """Writes what earlier searches teach into the journal of a search that is about to begin, which needs them no more
    then. Returns sentences for a person; none where there is nothing new.

    Raises:
        BadInput: where an earlier search is not found.
    """
    history = journal.history
    if not space.search.warm_start or history.warm_started is not None or history.trials:
        return ()
    return journal.append(collect_warm_start(space, excluding=journal.directory)).notes


def collect_warm_start(space: SearchExperiment, excluding: RunDirectory | None = None) -> WarmStarted:
    """Collects what the searches in `search.warm_start` teach; `excluding` is the directory of the search that asks.

    Raises:
        BadInput: naming every one that is not found.
    """
    lessons = _Lessons()
    problems: list[Problem] = []
    for run in space.search.warm_start:
        try:
            _learn_from(find(run, space, excluding), space, lessons)
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(problems).in_file(space.file)
    if lessons.trials and space.search.sampler in LEARNS_FROM_ITSELF:
        lessons.notes.append(f"the sampler {space.search.sampler} learns nothing from them; they are not tried again")
    return WarmStarted(
        trials=tuple(lessons.trials), first_points=tuple(lessons.first_points), notes=tuple(lessons.notes)
    )


def find(run: str, space: SearchExperiment, excluding: RunDirectory | None = None) -> EarlierSearch:
    """Finds an earlier search by its directory, by `name` (its latest run) or `name/run` below `tracking.directory`, or
    by the id of its MLflow run. Raises BadInput for none."""
    folder = space.tracking.directory
    for path in (Path(run), folder / run):
        for directory in _runs(path, excluding):
            return _from_disk(directory)
    if re.fullmatch("[0-9a-f]{32}", run):
        from tuner.tracking.earlier_search import read_search  # with MLflow, which a directory does not need

        return read_search(tracking_uri(space.tracking.uri), run)
    expected = f"an experiment directory, a search or run below {folder}, or the id of a search's MLflow run"
    raise BadInput(Problem("search.warm_start", expected, repr(run)))


def _runs(path: Path, excluding: RunDirectory | None) -> Iterator[RunDirectory]:
    """The run in a directory, or a search's runs, the latest first."""
    candidates = [RunDirectory(path), *reversed(runs_below(path))]
    own = None if excluding is None else excluding.path.resolve()
    inside = [] if own is None else own.parents
    for directory in candidates:
        run = directory.path.resolve()
        if directory.journal.is_file() and run != own and run not in inside:
            yield RunDirectory(run)


def _from_disk(directory: RunDirectory) -> EarlierSearch:
    history = SearchHistory.read(directory.journal)
    if history.started is None:
        return EarlierSearch(directory.full_name, None, ())
    space = parse_experiment(history.started.space, str(directory.space))
    trials = tuple(_observed(trial, space) for trial in history.trials.values())
    return EarlierSearch(directory.full_name, space.search.folds, trials)


def _observed(trial: TrialRecord, space: SearchExperiment) -> ObservedTrial:
    try:
        config = flatten(space.trial_config(trial.params).model_dump(mode="json"))
    except ValidationError:  # it failed of that
        config = {}
    folds = tuple(FoldScore(fold=fold.fold, val_top1=fold.val_top1) for fold in trial.folds)
    return ObservedTrial(trial.number, config, trial.state, trial.reason, folds, tuple(trial.rungs))


def _learn_from(earlier: EarlierSearch, space: SearchExperiment, lessons: _Lessons) -> None:
    ended = [trial for trial in earlier.trials if trial.state != "running"]
    compared = [(trial, _Likeness.of(trial, earlier.num_folds, space)) for trial in ended]
    comparable = [(trial, found) for trial, found in compared if not found.differing]
    taken = [(trial, found) for trial, found in comparable if not found.outside]
    head = f"warm start from {earlier.label}:"
    if comparable or not ended:
        lessons.trials += [_as_evidence(earlier.label, trial, found.params) for trial, found in taken]
        left_out = "; ".join(_left_out(earlier, [found for _, found in compared], space))
        note = f"{head} {len(taken)} of {len(earlier.trials)} trials taken"
        lessons.notes.append(f"{note}; left out: {left_out}" if left_out else note)
        return
    complete = [(trial, found) for trial, found in compared if trial.state == "complete"]
    within = [(trial, found) for trial, found in complete if found.params and not found.outside]
    best = sorted(within, key=lambda pair: (-(pair[0].val_top1 or 0.0), pair[0].number))[:MAX_FIRST_POINTS]
    lessons.first_points += [found.params for _, found in best]
    names = ", ".join(trial.trial_id for trial, _ in best) or "none, since none lies within the ranges"
    different = _listed(set.intersection(*(found.differing for _, found in compared))) or "something in each"
    lessons.notes.append(f"{head} its scores are not comparable (different: {different}); tried first: {names}")


@dataclass(frozen=True)
class _Likeness:
    """A trial beside a search: the fixed settings that differ, the dimensions outside of whose ranges it lies, and its
    values of all dimensions that it had, all by dotted path."""

    differing: set[str]
    outside: set[str]
    params: Params

    @classmethod
    def of(cls, trial: ObservedTrial, num_folds: int | None, space: SearchExperiment) -> _Likeness:
        config = _with_defaults(trial.config)
        fixed = {**flatten(space.fixed), "seed": space.search.seed}
        keys = (fixed | config).keys() - space.dimensions.keys() - {*CHANGES_NO_SCORE}
        differing = {key for key in keys if fixed.get(key) != config.get(key)}
        differing |= space.dimensions.keys() - config.keys()
        if num_folds != space.search.folds:
            differing.add("search.folds")
        values = {path: config[path] for path in space.dimensions if path in config}
        outside = {path for path, value in values.items() if not contains(space.dimensions[path], value)}
        return cls(differing, outside, values)


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with the defaults of settings that have come since; nothing of one that is invalid."""
    tree: dict[str, Any] = {}
    for path, value in config.items():
        set_leaf(tree, path, value)
    try:
        return flatten(TrialConfig.model_validate(tree).model_dump(mode="json"))
    except ValidationError:
        return {}


def _as_evidence(label: str, trial: ObservedTrial, params: Params) -> EarlierTrial:
    return EarlierTrial(
        origin=f"{label} {trial.trial_id}",
        params=params,
        state=trial.state,
        reason=trial.reason,
        folds=trial.folds,
        rungs=trial.rungs,
    )


def _left_out(earlier: EarlierSearch, compared: Iterable[_Likeness], space: SearchExperiment) -> Iterator[str]:
    """Reasons, each with the number of trials."""
    reasons = Counter(_why_left_out(found, space) for found in compared if found.differing or found.outside)
    reasons["unfinished"] += sum(trial.state == "running" for trial in earlier.trials)
    for reason, count in reasons.items():
        if count:
            yield f"{count} {reason}"


def _why_left_out(found: _Likeness, space: SearchExperiment) -> str:
    if found.differing:
        return f"different in {_listed(found.differing)}"
    return f"outside of the range of {_listed({space.short_names[path] for path in found.outside})}"


def _listed(keys: set[str], at_most: int = 4) -> str:
    names = sorted(keys)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
