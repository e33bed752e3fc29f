"""Warm start of a search from earlier ones.

A trial of an earlier search is evidence for the sampler if its score is comparable: everything that this search fixes
had the same value in it (dataset, backbone, method, training, folds and seed), the examples are the same, wherever they
are, and its record has the metric that this search optimises, whatever the earlier one did. A dimension of this search
may have had
another range in the earlier one, or a fixed value; the trial is used if its value is within the range of this search.
Of alternatives, it counts as a trial of the one that fixes what it had, whatever form the earlier search had.

If no trial of an earlier search is comparable, its scores are ignored, but up to three of its best configurations are
tried first: those within the ranges. The sampler completes them in dimensions that the earlier search did not have.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.errors import BadInput, Problem
from tuner.experiment.dimensions import Choice, Dimension, contains
from tuner.experiment.objective import Objective
from tuner.experiment.precision import AUTO, PRECISIONS
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment
from tuner.experiment.settings import tracking_uri
from tuner.experiment.tree import flatten, set_leaf
from tuner.record.create import MAY_MOVE
from tuner.record.data_record import fingerprint_of, inventories_of, read_inventories
from tuner.record.directory import RunDirectory
from tuner.record.earlier import EarlierSearch, ObservedTrial
from tuner.record.events import EarlierTrial, Params, WarmStarted
from tuner.record.find import runs_below
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.journal import SearchJournal
from tuner.record.scores import FoldScore

MAX_FIRST_POINTS = 3
"""Number of the best configurations of an incomparable search that are tried first; each costs a whole trial."""

SAMPLERS_WITHOUT_EVIDENCE = ("random", "cmaes")
"""Samplers that use no trials but those that they proposed, if any."""

CHANGED_DATA = "the examples themselves"
"""What is different where no key is: files were added, removed, moved to another class, or have other contents."""

KEYS_WITHOUT_EFFECT = ("data.download", "data.check_counts")


@dataclass
class _Evidence:
    """Evidence from earlier searches, collected search by search; see `WarmStarted`."""

    data: Callable[[], str]
    """Fingerprint of this search's data."""
    trials: list[EarlierTrial] = field(default_factory=list)
    first_points: list[Params] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def apply_warm_start(space: SearchExperiment, journal: SearchJournal) -> tuple[str, ...]:
    """Records the evidence from earlier searches in the journal of a search that begins.

    Returns lines for the user; none if the search asks for no warm start, or has one or a trial already.

    Raises:
        BadInput: if an earlier search is not found.
    """
    history = journal.history
    if not space.search.warm_start or history.warm_started is not None or history.trials:
        return ()
    return journal.append(collect_warm_start(space, excluding=journal.directory)).notes


def collect_warm_start(space: SearchExperiment, excluding: RunDirectory | None = None) -> WarmStarted:
    """Collects the evidence from the searches in `search.warm_start`. `excluding` is the directory of its own run.

    Raises:
        BadInput: naming every one that is not found.
    """
    evidence = _Evidence(data=cache(lambda: _fingerprint_of(space, excluding)))
    problems: list[Problem] = []
    for run in space.search.warm_start:
        try:
            _collect_from(find(run, space, excluding), space, evidence)
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(problems).in_file(space.file)
    if evidence.trials and space.search.sampler in SAMPLERS_WITHOUT_EVIDENCE:
        evidence.notes.append(f"the sampler {space.search.sampler} does not use them; they are not tried again")
    return WarmStarted(
        trials=tuple(evidence.trials), first_points=tuple(evidence.first_points), notes=tuple(evidence.notes)
    )


def _fingerprint_of(space: SearchExperiment, own: RunDirectory | None) -> str:
    """The fingerprint of the data of `space`, as its run has recorded it, if it has begun."""
    recorded = None if own is None else read_inventories(own)
    return fingerprint_of(inventories_of(space) if recorded is None else recorded)


def find(run: str, space: SearchExperiment, excluding: RunDirectory | None = None) -> EarlierSearch:
    """Finds an earlier search by its directory, by `name` (its latest run) or `name/run` below `tracking.directory`, or
    by the id of its MLflow run. Raises BadInput if there is none."""
    folder = space.tracking.directory
    for path in (Path(run), folder / run):
        for directory in _runs(path, excluding):
            return _from_disk(directory)
    if re.fullmatch("[0-9a-f]{32}", run):
        from tuner.tracking.earlier_search import read_search  # imports MLflow, which a directory does not need

        return read_search(tracking_uri(space.tracking.uri), run)
    expected = f"an experiment directory, a search or run below {folder}, or the id of a search's MLflow run"
    raise BadInput(Problem("search.warm_start", expected, repr(run)))


def _runs(path: Path, excluding: RunDirectory | None) -> Iterator[RunDirectory]:
    """Yields the run in a directory, or the runs of a search, the latest first."""
    candidates = [RunDirectory(path), *(reversed(runs_below(path)) if os.path.isdir(path) else ())]
    own = None if excluding is None else excluding.path.resolve()
    inside = [] if own is None else own.parents
    for directory in candidates:
        run = directory.path.resolve()
        if os.path.isfile(directory.journal) and run != own and run not in inside:
            yield RunDirectory(run)


def _from_disk(directory: RunDirectory) -> EarlierSearch:
    history = SearchHistory.read(directory.journal)
    if history.started is None:
        return EarlierSearch(directory.full_name, None, ())
    space = parse_experiment(history.started.space, str(directory.space))
    trials = tuple(_observed(trial, space) for trial in history.trials.values())
    inventories, search = read_inventories(directory), space.search
    data = None if inventories is None else fingerprint_of(inventories)
    return EarlierSearch(directory.full_name, search.num_trial_folds, trials, search.folds, search.keep, data)


def _observed(trial: TrialRecord, space: SearchExperiment) -> ObservedTrial:
    try:
        config = flatten(space.trial_config(trial.params).model_dump(mode="json"))
    except (KeyError, ValidationError):  # of a trial that failed for it, or of a damaged record
        config = {}
    folds = tuple(FoldScore(fold=fold.fold, val_top1=fold.val_top1, metrics=fold.metrics) for fold in trial.folds)
    return ObservedTrial(trial.number, config, trial.state, trial.reason, folds, tuple(trial.rungs))


def _collect_from(earlier: EarlierSearch, space: SearchExperiment, evidence: _Evidence) -> None:
    ended = [trial for trial in earlier.trials if trial.state != "running"]
    same_data = None if earlier.data is None else earlier.data == evidence.data()
    compared = [(trial, _Comparability.of(trial, earlier, space, same_data)) for trial in ended]
    comparable = [(trial, found) for trial, found in compared if not found.differing]
    taken = [(trial, found) for trial, found in comparable if not found.outside]
    head = f"warm start from {earlier.label}:"
    if comparable or not ended:
        evidence.trials += [_as_evidence(earlier.label, trial, found.params) for trial, found in taken]
        left_out = "; ".join(_left_out(earlier, [found for _, found in compared], space))
        note = f"{head} {len(taken)} of {len(earlier.trials)} trials taken"
        evidence.notes.append(f"{note}; left out: {left_out}" if left_out else note)
        return
    complete = [(trial, found) for trial, found in compared if trial.state == "complete"]
    within = [(trial, found) for trial, found in complete if found.params and not found.outside]
    objective = Objective(space.search.objective)
    best = sorted(within, key=lambda pair: (-(pair[0].score(objective) or 0.0), pair[0].number))[:MAX_FIRST_POINTS]
    evidence.first_points += [found.params for _, found in best]
    names = ", ".join(trial.trial_id for trial, _ in best) or "none, as none is within the ranges"
    different = _listed(set.intersection(*(found.differing for _, found in compared))) or "something in each"
    evidence.notes.append(f"{head} its scores are not comparable (different: {different}); tried first: {names}")


@dataclass(frozen=True)
class _Comparability:
    """Comparison of a trial with a search: the fixed settings that differ, by dotted path; the dimensions whose ranges
    do not hold its value; and its values of the search's dimensions, by key.

    In a space with alternatives it is a trial of those that differ from it in the fewest settings."""

    differing: set[str]
    outside: set[str]
    params: Params

    @classmethod
    def of(
        cls, trial: ObservedTrial, earlier: EarlierSearch, space: SearchExperiment, same_data: bool | None = None
    ) -> _Comparability:
        config = _with_defaults(trial.config)
        labels = {key: each.fixed for key, each in space.branches.alternatives.items()}
        compared = (cls._at(chosen, config, space) for chosen in space.branches.grid(labels))
        found = min(compared, key=lambda each: (len(each.differing), len(each.outside)))
        differing = found.differing - {*MAY_MOVE} if same_data else found.differing
        changed = [CHANGED_DATA] if same_data is False else []
        others = (*changed, *_other_folds(earlier, space), *_other_metric(trial, earlier, space))
        return replace(found, differing={*differing, *others})

    @classmethod
    def _at(cls, chosen: Mapping[str, str], config: dict[str, Any], space: SearchExperiment) -> _Comparability:
        """Compares a configuration with the trials of this search that have the labels `chosen` of all alternatives."""
        branches = space.branches
        fixed = {**branches.all_leaves(space.fixed, chosen), "seed": space.search.seed}
        searched = [key for key in branches.active(space.dimensions, chosen) if key not in chosen]
        paths = {key: branches.path_of(key) for key in searched}
        keys = (fixed | config).keys() - {*paths.values()} - {*KEYS_WITHOUT_EFFECT}
        differing = {key for key in keys if fixed.get(key) != config.get(key) and not _is_undecided(key, fixed, config)}
        differing |= {*paths.values()} - config.keys()
        values = {key: _as_listed(space.dimensions[key], path, config) for key, path in paths.items() if path in config}
        other = {key for key, label in chosen.items() if not differing.isdisjoint(branches.identity(key, label))}
        known = {**chosen, **values}
        params = {k: known[k] for k in space.dimensions if k in known and other.isdisjoint((k, *branches.required(k)))}
        outside = {key for key in values.keys() & params.keys() if not contains(space.dimensions[key], values[key])}
        return cls(differing, outside, params)


def _is_undecided(key: str, *leaves: Mapping[str, Any]) -> bool:
    """Whether a precision is not known yet, or was not recorded, as the hardware decides it."""
    return key in PRECISIONS and any(each.get(key) == AUTO for each in leaves)


def _as_listed(dimension: Dimension, path: str, config: Mapping[str, Any]) -> Any:
    """The value of the leaf `path` in the configuration `config`; of a choice, the item that gives it.

    A configuration may have it in another form than the file: `data.crop: true` is the crop `random`.
    """
    value = config[path]
    if not isinstance(dimension, Choice) or contains(dimension, value):
        return value
    same = (item for item in dimension.choice if _with_defaults({**config, path: item}).get(path) == value)
    return next(same, value)


def _other_folds(earlier: EarlierSearch, space: SearchExperiment) -> Iterator[str]:
    """Yields the settings in which the folds of two searches differ, or what is scored of them."""
    if earlier.folds_per_deal not in (None, space.search.folds):
        yield "search.folds"
    elif earlier.num_folds != space.search.num_trial_folds:
        yield "search.folds" if earlier.folds_per_deal is None else "search.repeats"
    if earlier.keep not in (None, space.search.keep):
        yield "search.keep"


def _other_metric(trial: ObservedTrial, earlier: EarlierSearch, space: SearchExperiment) -> Iterator[str]:
    """Yields the setting in which a trial differs whose record lacks the metric of this search; of a trial without a
    score, the records of the others are asked."""
    asked = (trial,) if trial.folds or trial.rungs else earlier.trials
    if not all(other.knows(Objective(space.search.objective)) for other in asked):
        yield "search.objective"


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Completes a recorded configuration with the defaults of settings that are newer; {} if it is invalid."""
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


def _left_out(earlier: EarlierSearch, compared: Iterable[_Comparability], space: SearchExperiment) -> Iterator[str]:
    """Yields the reasons for which trials were left out, each with their number."""
    reasons = Counter(_why_left_out(found, space) for found in compared if found.differing or found.outside)
    reasons["unfinished"] += sum(trial.state == "running" for trial in earlier.trials)
    for reason, count in reasons.items():
        if count:
            yield f"{count} {reason}"


def _why_left_out(found: _Comparability, space: SearchExperiment) -> str:
    if found.differing:
        return f"different in {_listed(found.differing)}"
    return f"outside the range of {_listed({space.short_names[path] for path in found.outside})}"


def _listed(keys: set[str], at_most: int = 4) -> str:
    names = sorted(keys)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
