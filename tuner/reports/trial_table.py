"""The table of trials in the report, and why trials failed or were stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from tuner.messages.wording import clock, counted, spell_scores
from tuner.record.events import TrialState
from tuner.record.history import TrialRecord
from tuner.reports.search_run import SearchRun

STATES: tuple[TrialState, ...] = get_args(TrialState)


@dataclass(frozen=True)
class Heading:
    """A heading of the table of trials; `is_text` tells a column of texts from one of numbers."""

    name: str
    is_text: bool


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table: exact values to sort by, and short ones to be read."""

    trial: TrialRecord
    mean: str | None
    folds: str
    params: list[tuple[Any, str]]
    """Exact value and short text of each dimension."""
    duration_s: float | None
    duration: str
    source: str


def headings_of(run: SearchRun) -> Iterator[Heading]:
    """Yields the headings of the columns."""
    for name in ("trial", "state"):
        yield Heading(name, is_text=True)
    yield Heading(run.history.objective.label, is_text=False)
    yield Heading("folds", is_text=True)
    for name in run.names.values():
        yield Heading(name, is_text=False)
    yield Heading("training", is_text=False)
    for name in ("source", "reason"):
        yield Heading(name, is_text=True)


def rows_of(run: SearchRun) -> list[TrialRow]:
    """Lists the trials in the order of their numbers."""
    return [_row(trial, run) for trial in run.history.trials.values()]


def _row(trial: TrialRecord, run: SearchRun) -> TrialRow:
    duration_s = trial.training_duration_s
    values = [trial.params.get(path, "") for path in run.dimensions]
    return TrialRow(
        trial=trial,
        mean=None if trial.value is None else f"{trial.value:.4f}",
        folds=spell_scores(trial.fold_values),
        params=[(value, short(value)) for value in values],
        duration_s=duration_s or None,
        duration=clock(duration_s) if duration_s else "–",
        source=trial.source.replace("_", " "),
    )


def state_counts(run: SearchRun) -> str:
    """Counts the trials in each state that any is in: `2 complete, 1 failed`."""
    return ", ".join(f"{run.history.count(state)} {state}" for state in STATES if run.history.count(state))


def failures_of(trials: Iterable[TrialRecord]) -> Iterator[tuple[str, str]]:
    """Yields each reason and the trials that failed of it, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state == "failed":
            by_reason.setdefault(trial.reason, []).append(trial.trial_id)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield reason, ", ".join(names[:5]) + more


def racing_sentence(run: SearchRun) -> str:
    """Says how many fold trainings were done, how many racing spared, and why others are missing."""
    trials, folds = list(run.history.trials.values()), run.space.search.num_trial_folds
    whole = folds * len(trials)
    trained = sum(trial.num_trained for trial in trials)
    left = {state: sum(folds - t.num_trained for t in trials if t.state == state) for state in STATES}
    stopped = run.history.count("pruned")
    if not stopped:
        sentence = f"{trained:g} of {whole} fold trainings were done. No trial was stopped early"
        sentence += "; racing was off." if run.space.search.racing.rule == "none" else "."
    else:
        sentence = (
            f"{trained:g} of {whole} fold trainings were done: racing spared {left['pruned']:g} of them "
            f"({left['pruned'] / whole:.0%}) by stopping {counted(stopped, 'trial')} early."
        )
    others = ((left["failed"], "are missing of trials that failed"), (left["running"], "are still to come"))
    return sentence + "".join(f" {count:g} {text}." for count, text in others if count)


def stopping_places(run: SearchRun) -> Iterator[str]:
    """Yields how many trials were stopped after each fold, or at each rung of a fold."""
    places: Counter[tuple[int, int]] = Counter()
    for trial in run.history.trials.values():
        if trial.state == "pruned":
            steps = [rung.step for rung in trial.rungs if rung.fold > len(trial.folds)]
            places[len(trial.folds), max(steps, default=0)] += 1
    for (folds, step), count in sorted(places.items()):
        where = f"in fold {folds + 1}, after {step} steps" if step else f"after fold {folds}"
        yield f"{counted(count, 'trial')} {where}"


def short(value: Any) -> str:
    """Formats a value, a float with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
