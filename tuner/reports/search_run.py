"""A search read from its run directory, for its report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from pydantic import ValidationError

from trainables.errors import BadInput, Problem
from tuner.experiment.alternatives import NO_BRANCHES
from tuner.experiment.dimensions import Dimension
from tuner.experiment.search_experiment import (
    MAX_NAME_CHARACTERS,
    SearchExperiment,
    parse_experiment,
    yaml_text,
)
from tuner.experiment.settings import SearchSettings, TrackingSettings
from tuner.experiment.tree import PATHS
from tuner.record.baselines import BaselineRecord
from tuner.record.configs import config_of
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import ComparisonStarted, Event
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.lock import holder_of
from tuner.record.selection import best_trial, winner_of
from tuner.reports.redacted_record import redacted_environment, redacted_events
from tuner.reports.search_result import SearchResult, search_result_of
from tuner.reports.timeline import worked


@dataclass(frozen=True)
class SearchRun:
    """A search as it stands in its record, without credentials.

    `events` are those of its journal; `duration_s` is the time in seconds that its commands ran, without the pauses
    between them.
    """

    directory: RunDirectory
    space: SearchExperiment
    events: tuple[Event, ...]
    history: SearchHistory
    environment: Environment
    duration_s: float
    is_running: bool

    @property
    def best(self) -> TrialRecord | None:
        """The best fully evaluated trial."""
        return best_trial(self.history.trials.values())

    @property
    def winner(self) -> TrialRecord | BaselineRecord | None:
        """The best trial, or the baseline that is better: its model is the registered one."""
        return winner_of(self.history.trials.values(), self.history.baselines.values())

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """The searched dimensions by dotted path."""
        return self.space.dimensions

    @property
    def names(self) -> dict[str, str]:
        """Dotted path of each dimension → the name that is displayed."""
        return self.space.short_names

    @property
    def num_trials(self) -> int | None:
        """Number of trials asked for, None where time alone limits them; one where nothing is searched."""
        return self.space.search.trials if self.dimensions else 1

    @cached_property
    def result(self) -> SearchResult:
        """The result so far."""
        ended, uri = self.history.ended, self.environment.tracking_uri
        why = "" if ended is None else ended.why
        return search_result_of(self.space, self.directory, self.history, uri, self.duration_s, why)


def read_run(directory: RunDirectory) -> SearchRun:
    """Reads the run directory of a search, finished or not.

    Raises:
        BadInput: where it is not the directory of a search, or its journal cannot be read.
    """
    is_locked = holder_of(directory) is not None  # before the journal: a run that ends meanwhile has written so
    try:
        events = tuple(redacted_events(directory))
        history = SearchHistory.of(events, directory.journal)
    except OSError as error:
        raise _no_search(directory, f"a journal that cannot be read ({type(error).__name__}: {error})") from None
    if history.last_started is None:
        is_comparison = any(isinstance(event, ComparisonStarted) for event in events)
        got = f"that of a comparison, whose tables are in {directory.tables_html.name}"
        raise _no_search(directory, got if is_comparison else "an empty journal")
    space = parse_experiment(history.last_started.space, str(directory.space))
    for trial in history.trials.values():
        if trial.state == "complete" and not _is_of(trial, space):
            raise _no_search(directory, f"{trial.trial_id}, whose values are not those of the experiment's dimensions")
    return SearchRun(
        directory=directory,
        space=space,
        events=events,
        history=history,
        environment=redacted_environment(directory),
        duration_s=max(seconds for seconds, _ in worked(events)),
        is_running=is_locked and history.ended is None,
    )


def _is_of(trial: TrialRecord, space: SearchExperiment) -> bool:
    """Whether a recorded trial has a configuration in the experiment, which a damaged record may not give it."""
    try:
        space.trial_config(trial.params)
    except (KeyError, ValidationError):
        return False
    return True


def best_space(run: SearchRun) -> SearchExperiment | None:
    """Makes an experiment of the winner's configuration, with nothing left to search; None where nothing is complete.

    It has another name, so that it takes neither the search's place nor that of its model, and is recorded where any
    experiment is: the search's folder and database may not be there on another machine.
    """
    winner, asked = run.winner, run.space.search
    if winner is None:
        return None
    same = ("objective", "keep", "folds", "repeats", "seed", "concurrency")
    settings = SearchSettings(trials=1, baselines=(), **{name: getattr(asked, name) for name in same})
    return replace(
        run.space,
        name=f"{run.space.name[: MAX_NAME_CHARACTERS - len('-best')]}-best",
        fixed=config_of(winner, run.space).model_dump(mode="json", exclude={"seed"}),
        dimensions={},
        branches=NO_BRANCHES,
        search=settings,
        tracking=TrackingSettings(),
    )


def best_yaml(run: SearchRun) -> str | None:
    """Writes `best_space` as an experiment file that runs on other machines, too: it names no place for records, and
    says which keys are files of this machine. None where nothing is complete."""
    alone = best_space(run)
    if alone is None:
        return None
    tree = alone.as_tree()
    del tree["tracking"]
    places = ((section, key) for section, keys in PATHS.items() for key in keys)
    found = [f"{section}.{key}" for section, key in places if tree.get(section, {}).get(key) is not None]
    flags = " ".join(f"--set {key}=…" for key in found)
    note = f"# The files of another machine are given by {flags}\n" if flags else ""
    return f"# The best configuration of {run.directory.full_name}\n{note}{yaml_text(tree)}"


def _no_search(directory: RunDirectory, got: str) -> BadInput:
    return BadInput(Problem("RUN", "the directory of a search", got, file=str(directory)))
