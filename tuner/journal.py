"""The experiment directory: what a search knows, kept where a crash cannot take it.

    experiments/<name>/<run>/        run = the time at which the search was started
        space.yaml                   the resolved experiment; `--resume` reads it
        journal.jsonl                one event a line, appended and synced; the durable truth
        environment.json             versions, host, command
        model/                       the best configuration, retrained (of a search)
        searches/, comparison.*      the rows' own searches, and the tables (of a comparison)
        logs/                        what Ray and MLflow had to say

Everything else (MLflow, the Optuna study, the progress display) is a projection of the journal.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

TrialState = Literal["running", "complete", "pruned", "failed"]
Event = dict[str, Any]
"""A journal line: always `event` (its kind) and `time_s` (Unix time); the rest by kind, see `History.apply`."""


@dataclass
class TrialRecord:
    """What is known of one trial. `params` are the searched dimensions by their short names; `folds` are FoldResults as
    dicts, in order; `reason` says why a trial did not complete."""

    number: int
    params: dict[str, Any]
    started_s: float
    attrs: dict[str, Any] = field(default_factory=dict)
    state: TrialState = "running"
    reason: str = ""
    folds: list[dict[str, Any]] = field(default_factory=list)
    finished_s: float | None = None

    @property
    def trial_id(self) -> str:
        """The trial's name in MLflow and on the screen."""
        return trial_id(self.number)

    @property
    def fold_scores(self) -> list[float]:
        """Validation top-1 of the folds finished so far."""
        return [fold["val_top1"] for fold in self.folds]

    @property
    def val_top1(self) -> float | None:
        """Mean validation top-1 of a complete trial; None for any other, so that no part passes for the whole."""
        return fmean(self.fold_scores) if self.state == "complete" else None


@dataclass
class History:
    """The journal read back: every trial by number, the retrainings by seed, and how the search stands; of a comparison
    the settings that its searched rows came to by (row, column), and its trainings by (row, column, seed)."""

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    retrained: dict[int, Event] = field(default_factory=dict)
    retrain_failures: dict[int, Event] = field(default_factory=dict)
    started: Event | None = None
    model: Event | None = None
    finished: Event | None = None
    chosen: dict[tuple[str, str], Event] = field(default_factory=dict)
    cells: dict[tuple[str, str, int], Event] = field(default_factory=dict)
    cell_failures: dict[tuple[str, str, int], Event] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        match event["event"]:
            case "search_started" | "comparison_started":
                self.started = self.started or event
                self.finished = None
            case "trial_started":
                self.trials[event["trial"]] = TrialRecord(
                    event["trial"], event["params"], event["time_s"], event.get("attrs", {})
                )
            case "fold_finished":
                self.trials[event["trial"]].folds.append(event["result"])
            case "trial_finished":
                trial = self.trials[event["trial"]]
                trial.state, trial.reason, trial.finished_s = event["state"], event["reason"], event["time_s"]
            case "retrain_finished":
                self.retrained[event["seed"]] = event
            case "retrain_failed":
                self.retrain_failures[event["seed"]] = event
            case "model_registered":
                self.model = event
            case "row_searched" | "cell_finished" | "cell_failed":
                self._apply_of_comparison(event)
            case "search_finished" | "comparison_finished":
                self.finished = event

    def _apply_of_comparison(self, event: Event) -> None:
        if event["event"] == "row_searched":
            self.chosen[event["row"], event["column"]] = event
            return
        key = event["row"], event["column"], event["seed"]
        if event["event"] == "cell_failed":
            self.cell_failures[key] = event
        else:
            self.cells[key] = event
            self.cell_failures.pop(key, None)  # of an earlier attempt

    def retrainings(self, trial: int) -> dict[int, Event]:
        """The retrainings of one trial by seed. A search that is given more trials may come to another best."""
        return _of_trial(self.retrained, trial)

    def failed_retrainings(self, trial: int) -> dict[int, Event]:
        """Those of its retrainings that broke off, by seed, each with its `reason`."""
        return _of_trial(self.retrain_failures, trial)

    def model_uri(self, trial: int) -> str | None:
        """Where the model of that trial's configuration is registered."""
        return self.model["uri"] if self.model is not None and self.model["trial"] == trial else None

    def count(self, state: TrialState) -> int:
        """Number of trials in `state`."""
        return sum(trial.state == state for trial in self.trials.values())


def _of_trial(events: dict[int, Event], trial: int) -> dict[int, Event]:
    return {seed: event for seed, event in sorted(events.items()) if event.get("trial") == trial}


Listener = Callable[[Event, History], None]
"""Told of each event once it is on the disk, with the history that includes it."""


def trial_id(number: int) -> str:
    """`trial-0007`, counting from 0 as Optuna does."""
    return f"trial-{number:04d}"


class Journal:
    """Append-only log of one search or comparison, and the history that it amounts to. One writer: the driver."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "journal.jsonl"
        self.history = History()
        self.listeners: list[Listener] = []
        directory.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        for event in read_events(self.path):
            self.history.apply(event)
        self._file = self.path.open("a", encoding="utf-8")

    def append(self, kind: str, **fields: Any) -> Event:
        """Writes one event, through to the disk, then takes it in. Raises OSError where the disk will not have it."""
        event = {"event": kind, "time_s": time.time(), **fields}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.history.apply(event)
        for listener in self.listeners:
            listener(event, self.history)
        return event

    def close(self) -> None:
        """Closes the file; the history stays."""
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """The events in `path`, oldest first. A line cut off by a crash is no event; anything else unreadable raises."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _drop_torn_line(path: Path) -> None:
    """Cuts off a last line without its end, which a crash in the middle of a write leaves behind."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
