"""What is on the disk about one search, read for its report."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.errors import BadInput, Problem
from tuner.experiment.dimensions import Dimension
from tuner.experiment.search_experiment import MAX_NAME_CHARACTERS, SearchExperiment, parse_experiment
from tuner.experiment.settings import SearchSettings
from tuner.messages.redaction import without_credentials
from tuner.record.events import Event, read_events
from tuner.record.history import History, TrialRecord
from tuner.record.lock import holder_of
from tuner.record.selection import best_trial
from tuner.reports.search_result import SearchResult, search_result_of


@dataclass(frozen=True)
class SearchRun:
    """A search as it stands. `seconds` is the time that its commands ran, without the pauses between them."""

    directory: Path
    space: SearchExperiment
    history: History
    environment: dict[str, Any]
    seconds: float
    is_running: bool

    @property
    def best(self) -> TrialRecord | None:
        """The best fully evaluated trial."""
        return best_trial(self.history.trials.values())

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """What was searched, by short names."""
        return {self.space.short_names[path]: dimension for path, dimension in self.space.dimensions.items()}

    @property
    def outcome(self) -> SearchResult:
        """What it has come to so far."""
        best = self.best
        model_uri = None if best is None else self.history.model_uri(best.number)
        store = str(self.environment.get("tracking_uri", ""))
        return search_result_of(self.space, self.directory, self.history, store, model_uri, self.seconds)


def read_run(directory: Path) -> SearchRun:
    """Reads the experiment directory of a search, finished or not.

    Raises:
        BadInput: where it is none.
    """
    is_held = holder_of(directory) is not None  # before the journal: what has ended meanwhile has said so
    history, clock = History(), _Clock()
    started: Event | None = None
    try:
        for event in map(_shown, read_events(directory / "journal.jsonl")):
            history.apply(event)
            clock.take(event)
            started = event if event["event"] == "search_started" else started
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _not_of_a_search(directory, f"a journal that cannot be read ({type(error).__name__}: {error})") from None
    if started is None:
        got = "that of a comparison, whose tables are in comparison.html" if history.started else "an empty journal"
        raise _not_of_a_search(directory, got)
    space = parse_experiment(started["space"], str(directory / "space.yaml"))
    is_running = is_held and history.finished is None
    return SearchRun(directory, space, history, _environment_in(directory), clock.seconds, is_running)


def best_space(run: SearchRun) -> SearchExperiment | None:
    """The best configuration as an experiment of its own, with nothing left to search; None where there is none.

    It has another name, so that it neither takes the search's place nor that of its model.
    """
    best, asked = run.best, run.space.search
    if best is None:
        return None
    settings = SearchSettings(trials=1, folds=asked.folds, seed=asked.seed, concurrency=asked.concurrency)
    return replace(
        run.space,
        name=f"{run.space.name[: MAX_NAME_CHARACTERS - len('-best')]}-best",
        fixed=run.space.trial_config(best.params).model_dump(mode="json", exclude={"seed"}),
        dimensions={},
        search=settings,
        tracking=run.space.tracking.model_copy(update={"registered_model": None}),
    )


class _Clock:
    """Adds up the time between the first and the last event of each command that worked on the search."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: float | None = None

    def take(self, event: Event) -> None:
        if self._last is not None and event["event"] != "search_started":
            self.seconds += max(0.0, event["time_s"] - self._last)
        self._last = event["time_s"]


def _environment_in(directory: Path) -> dict[str, Any]:
    try:
        return dict(_redacted(json.loads((directory / "environment.json").read_text(encoding="utf-8"))))
    except (OSError, ValueError):
        return {}  # a row's own search has none


def _shown(event: Event) -> Event:
    """What the report needs of an event. A trial's whole configuration is in the space and its params already."""
    return {key: _redacted(value) for key, value in event.items() if key != "config"}


def _redacted(tree: Any) -> Any:
    """Plain data with every text in it fit to be shown to others, whoever wrote it."""
    if isinstance(tree, dict):
        return {key: _redacted(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_redacted(value) for value in tree]
    return without_credentials(tree) if isinstance(tree, str) else tree


def _not_of_a_search(directory: Path, got: str) -> BadInput:
    return BadInput(Problem("RUN", "the directory of a search", got, file=str(directory)))
