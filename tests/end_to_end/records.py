"""What the record of a run says, for assertions. No other module of these tests knows how its events are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

from tuner.record.directory import RunDirectory
from tuner.record.events import (
    CellFinished,
    ComparisonEnded,
    Event,
    FoldFinished,
    RetrainingFinished,
    RowSearched,
    SearchEnded,
    ShareGrown,
    TrialEnded,
    TrialStarted,
)
from tuner.record.find import runs_below
from tuner.record.history import SearchHistory
from tuner.record.lines import read_events

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
    return list(read_events(RunDirectory(directory).journal))


def events_below(folder: Path) -> list[Event]:
    """The events of all runs in the experiments of `folder`."""
    runs = runs_below(folder / "experiments", depth=2)
    return [event for run in runs for event in read_events(run.journal)]


def events_in(content: bytes) -> list[Event]:
    """The events of a journal that is elsewhere."""
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return list(read_events(Path(file.name)))


def kinds_of(events: Iterable[Event]) -> list[str]:
    """The kind of each event."""
    return [event.event for event in events]


def trials_started(events: Iterable[Event]) -> list[int]:
    """Numbers of the trials, in the order in which they were proposed."""
    return [event.trial for event in events if isinstance(event, TrialStarted)]


def trials_ended(events: Iterable[Event]) -> list[int]:
    """Numbers of the trials, in the order in which they ended."""
    return [event.trial for event in events if isinstance(event, TrialEnded)]


def folds_of(events: Iterable[Event]) -> list[Fold]:
    """The folds that were finished, in their order."""
    finished = [event for event in events if isinstance(event, FoldFinished)]
    return [
        Fold(event.trial, result.fold, result.val_top1, result.loss_terms, result.taken_up_at)
        for event in finished
        for result in (event.result,)
    ]


def fold_numbers(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Trial and fold of each fold that was finished, in their order."""
    return [(fold.trial, fold.fold) for fold in folds_of(events)]


def trials_of(events: Iterable[Event]) -> dict[int, Trial]:
    """Every trial by its number."""
    events = list(events)
    folds = folds_of(events)
    return {
        number: Trial(
            {path.rpartition(".")[2]: value for path, value in trial.params.items()},
            trial.state,
            trial.reason,
            [fold for fold in folds if fold.trial == number],
        )
        for number, trial in SearchHistory.of(events).trials.items()
    }


def retrainings_of(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Trial and seed of each retraining that was finished."""
    return [(event.trial, event.result.seed) for event in events if isinstance(event, RetrainingFinished)]


def is_tested_last(events: Iterable[Event]) -> bool:
    """Whether no retraining, and so no look at the test split, came before the end of the last trial."""
    events = list(events)
    last = max(i for i, event in enumerate(events) if isinstance(event, TrialEnded))
    return last < min(i for i, event in enumerate(events) if isinstance(event, RetrainingFinished))


def was_interrupted(events: list[Event]) -> bool:
    """Whether the record ends with a command that a person stopped."""
    last = events[-1]
    return isinstance(last, SearchEnded | ComparisonEnded) and last.outcome == "interrupted"


def has_ended(events: list[Event]) -> bool:
    """Whether the record ends with the end of a command."""
    return isinstance(events[-1], SearchEnded | ComparisonEnded)


def shares_grown(events: Iterable[Event]) -> list[float]:
    """The shares of a GPU that trials got after one was too little."""
    return [event.gpus for event in events if isinstance(event, ShareGrown)]


def cells_of(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    """Row, column and seed of each training of a comparison."""
    return [(event.row, event.column, event.seed) for event in events if isinstance(event, CellFinished)]


def rows_searched(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Row and column of each search that a comparison has ended."""
    return [(event.row, event.column) for event in events if isinstance(event, RowSearched)]


def metrics_of(event: Event) -> Iterator[Metric]:
    """What MLflow must have of the scores and losses of an event."""
    match event:
        case FoldFinished():
            run, prefix = f"trial-{event.trial:04d}", f"fold_{event.result.fold}/"
            yield Metric(run, f"{prefix}val_top1", [(0, event.result.val_top1)])
        case RetrainingFinished():
            run, prefix = f"retrain-seed-{event.result.seed}", ""
            yield Metric(run, "test_top1", [(0, event.result.test_top1)])
        case _:
            return
    for term, values in event.result.loss_terms.items():
        yield Metric(run, f"{prefix}loss/{term}", list(zip(event.result.loss_steps, values, strict=True)))
