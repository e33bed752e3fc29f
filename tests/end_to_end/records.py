"""What the record of a run says, for assertions. No other module of these tests knows how its events are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tuner.record.events import JOURNAL, Event, read_events

__all__ = ["Event"]


class Fold(NamedTuple):
    """A fold that was trained to its end; `resumed_at` is the step of the checkpoint that it went on from, or 0."""

    trial: int
    fold: int
    val_top1: float
    losses: dict[str, list[float]]
    resumed_at: int


@dataclass(frozen=True)
class Trial:
    """A trial; `params` by the last part of their names. `state` is "running" where it has no end."""

    params: dict[str, Any]
    state: str
    reason: str
    folds: list[Fold]


class Metric(NamedTuple):
    """Points (step, value) of a metric that MLflow must have of an event."""

    run_name: str
    key: str
    points: list[tuple[int, float]]


def events_of(directory: Path) -> list[Event]:
    """The events of a run directory, oldest first; none where there is no journal."""
    return list(read_events(directory / JOURNAL))


def events_below(folder: Path) -> list[Event]:
    """The events of all runs in the experiments of `folder`."""
    return [event for journal in folder.glob(f"experiments/*/*/{JOURNAL}") for event in events_of(journal.parent)]


def events_in(content: bytes) -> list[Event]:
    """The events of a journal that lies elsewhere."""
    return [json.loads(line) for line in content.splitlines()]


def kinds_of(events: Iterable[Event]) -> list[str]:
    """The kind of each event."""
    return [event["event"] for event in events]


def trials_started(events: Iterable[Event]) -> list[int]:
    """Numbers of the trials, in the order in which they were proposed."""
    return [event["trial"] for event in events if event["event"] == "trial_started"]


def trials_ended(events: Iterable[Event]) -> list[int]:
    """Numbers of the trials, in the order in which they ended."""
    return [event["trial"] for event in events if event["event"] == "trial_finished"]


def folds_of(events: Iterable[Event]) -> list[Fold]:
    """The folds that were finished, in their order."""
    return [
        Fold(
            event["trial"],
            event["result"]["fold"],
            event["result"]["val_top1"],
            event["result"].get("loss_terms", {}),
            event["result"].get("taken_up_at", 0),
        )
        for event in events
        if event["event"] == "fold_finished"
    ]


def fold_numbers(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Trial and fold of each fold that was finished, in their order."""
    return [(fold.trial, fold.fold) for fold in folds_of(events)]


def trials_of(events: Iterable[Event]) -> dict[int, Trial]:
    """Every trial by its number."""
    events = list(events)
    ends = {event["trial"]: event for event in events if event["event"] == "trial_finished"}
    folds = folds_of(events)
    return {
        event["trial"]: Trial(
            {name.rpartition(".")[2]: value for name, value in event["params"].items()},
            ends[event["trial"]]["state"] if event["trial"] in ends else "running",
            ends[event["trial"]]["reason"] if event["trial"] in ends else "",
            [fold for fold in folds if fold.trial == event["trial"]],
        )
        for event in events
        if event["event"] == "trial_started"
    }


def retrainings_of(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Trial and seed of each retraining that was finished."""
    return [(event["trial"], event["seed"]) for event in events if event["event"] == "retrain_finished"]


def is_tested_last(events: Iterable[Event]) -> bool:
    """Whether no retraining, and so no look at the test split, came before the end of the last trial."""
    kinds = kinds_of(events)
    last = max(i for i, kind in enumerate(kinds) if kind == "trial_finished")
    return last < kinds.index("retrain_finished")


def was_interrupted(events: list[Event]) -> bool:
    """Whether the record ends with a command that a person stopped."""
    last = events[-1]
    return last["event"] in ("search_finished", "comparison_finished") and last["why"] == "interrupted"


def has_ended(events: list[Event]) -> bool:
    """Whether the record ends with the end of a command."""
    return kinds_of(events)[-1] in ("search_finished", "comparison_finished")


def shares_grown(events: Iterable[Event]) -> list[float]:
    """The shares of a GPU that trials got after one was too little."""
    return [event["gpus"] for event in events if event["event"] == "share_grown"]


def cells_of(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    """Row, column and seed of each training of a comparison."""
    return [(e["row"], e["column"], e["seed"]) for e in events if e["event"] == "cell_finished"]


def rows_searched(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Row and column of each search that a comparison has ended."""
    return [(event["row"], event["column"]) for event in events if event["event"] == "row_searched"]


def metrics_of(event: Event) -> Iterator[Metric]:
    """What MLflow must have of the scores and losses of an event."""
    match event["event"]:
        case "fold_finished":
            run, result = f"trial-{event['trial']:04d}", event["result"]
            prefix = f"fold_{result['fold']}/"
            yield Metric(run, f"{prefix}val_top1", [(0, result["val_top1"])])
        case "retrain_finished":
            run, result, prefix = f"retrain-seed-{event['seed']}", event, ""
            yield Metric(run, "test_top1", [(0, event["test_top1"])])
        case _:
            return
    for term, values in result["loss_terms"].items():
        yield Metric(run, f"{prefix}loss/{term}", list(zip(result["loss_steps"], values, strict=True)))
