"""The journal read back: trials, retrainings, and how a search or comparison stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, Self

from tuner.record.events import JOURNAL, Event, read_events

TrialState = Literal["running", "complete", "pruned", "failed"]


ABOUT_TRIALS = ("trial_started", "rung_reached", "fold_ahead", "fold_finished", "trial_finished")


@dataclass
class TrialRecord:
    """What is known of one trial. `params` are the searched dimensions by their short names; `source` is where they
    came from; `folds` are FoldResults as dicts, in order; `rungs` what it scored in the middle of a fold, as the events
    say it; `reason` says why a trial did not complete.

    `ahead` are the results, by fold, that came before their turn, and of which no rule may know yet. What of them was
    there when the trial ended, or in training, is `discarded`: the folds' numbers alone."""

    number: int
    params: dict[str, Any]
    started_s: float
    attrs: dict[str, Any] = field(default_factory=dict)
    state: TrialState = "running"
    reason: str = ""
    folds: list[dict[str, Any]] = field(default_factory=list)
    finished_s: float | None = None
    source: str = ""
    rungs: list[Event] = field(default_factory=list)
    ahead: dict[int, dict[str, Any]] = field(default_factory=dict)
    discarded: list[int] = field(default_factory=list)
    _val_top1: float | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def trial_id(self) -> str:
        """The trial's name in MLflow and on the screen."""
        return trial_id(self.number)

    @property
    def fold_scores(self) -> list[float]:
        """Validation top-1 of the folds finished so far."""
        return [fold["val_top1"] for fold in self.folds]

    @property
    def trained(self) -> float:
        """Trainings of a fold that it took, those for nothing included; a fold that was left at a rung counts as the
        share up to there."""
        shares = [rung["share"] for rung in self.rungs if rung["fold"] > len(self.folds)]
        return len(self.folds) + len(self.ahead) + len(self.discarded) + max(shares, default=0.0)

    @property
    def val_top1(self) -> float | None:
        """Mean validation top-1 of a complete trial; None for any other, so that no part passes for the whole."""
        if self.state != "complete":
            return None
        if self._val_top1 is None:  # whoever looks for the best asks every trial, after every trial
            self._val_top1 = fmean(self.fold_scores)
        return self._val_top1


@dataclass
class History:
    """The journal read back: every trial by number, the retrainings by seed, and how the search stands; of a comparison
    the settings that its searched rows came to by (row, column), and its trainings by (row, column, seed).

    `ended` are the trials in the order in which they ended. `undecided` is a result that nothing about a trial follows:
    a crash may have come before what was to be decided about it. `warm_started` is what earlier searches have taught.
    `gpus` is the least share of a card that a trial needs, as `share_measured` says, or as it has grown since.
    """

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    undecided: Event | None = None
    warm_started: Event | None = None
    share_measured: Event | None = None
    gpus: float | None = None
    retrained: dict[int, Event] = field(default_factory=dict)
    retrain_failures: dict[int, Event] = field(default_factory=dict)
    started: Event | None = None
    model: Event | None = None
    finished: Event | None = None
    chosen: dict[tuple[str, str], Event] = field(default_factory=dict)
    cells: dict[tuple[str, str, int], Event] = field(default_factory=dict)
    cell_failures: dict[tuple[str, str, int], Event] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """What the journal in an experiment directory amounts to."""
        history = cls()
        for event in read_events(directory / JOURNAL):
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        if event["event"] in ABOUT_TRIALS:
            self._apply_of_trial(event)
            return
        match event["event"]:
            case "search_started" | "comparison_started":
                self.started = self.started or event
                self.finished = None
            case "warm_started":
                self.warm_started = event
            case "share_measured" | "share_grown":
                self.share_measured = event if event["event"] == "share_measured" else self.share_measured
                self.gpus = max(self.gpus or 0.0, event["gpus"])
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

    def _apply_of_trial(self, event: Event) -> None:
        number = event["trial"]
        self.undecided = event if event["event"] in ("rung_reached", "fold_finished") else None
        match event["event"]:
            case "trial_started":
                attrs, source = event.get("attrs", {}), event.get("source", "")
                self.trials[number] = TrialRecord(number, event["params"], event["time_s"], attrs, source=source)
            case "rung_reached":
                self.trials[number].rungs.append(event)
            case "fold_ahead":
                self.trials[number].ahead[event["result"]["fold"]] = event["result"]
            case "fold_finished":
                self.trials[number].folds.append(event["result"])
                self.trials[number].ahead.pop(event["result"]["fold"], None)
            case "trial_finished":
                trial = self.trials[number]
                trial.state, trial.reason, trial.finished_s = event["state"], event["reason"], event["time_s"]
                trial.ahead, trial.discarded = {}, event.get("discarded", [])
                self.ended.append(number)

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


class EarlierSearch(NamedTuple):
    """A search that was recorded somewhere, to learn from. The `params` of its trials are the whole flat TrialConfig;
    `num_folds` is None where no trial says it."""

    label: str
    num_folds: int | None
    trials: list[TrialRecord]


def _of_trial(events: dict[int, Event], trial: int) -> dict[int, Event]:
    return {seed: event for seed, event in sorted(events.items()) if event.get("trial") == trial}


def trial_id(number: int) -> str:
    """`trial-0007`, counting from 0 as Optuna does."""
    return f"trial-{number:04d}"
