"""Summaries of the runs below the experiments folder: kind, state and best score of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trainables.errors import BadInput
from tuner.experiment.objective import TOP1, Objective, ObjectiveName
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, ComparisonStarted, Event, SearchEnded, SearchStarted
from tuner.record.find import runs_below
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.lines import DamagedJournal, read_events
from tuner.record.lock import holder_of, last_holder_of
from tuner.record.selection import winner_of

State = Literal["running", "finished", "interrupted", "failed", "died", "unreadable"]
"""`interrupted` is by Ctrl-C or `tuner.stop`, `failed` by an error; `died` means that its process ended and recorded
nothing."""


@dataclass(frozen=True)
class Summary:
    """Summary of a search or comparison. Times are Unix times in seconds."""

    name: str
    run: str
    kind: Literal["search", "comparison"]
    state: State
    why: str
    """Reason of its end, or the process that runs it."""
    num_asked: int | None
    """Number of trials, or trainings of a comparison, that were asked for."""
    counts: dict[str, int]
    """Numbers of those that have begun, by state; `open` are those of a search that no process runs, which a resumed
    one continues."""
    best: float | None
    """Validation score of the winner, the best trial or a baseline: the value of `objective`."""
    started_s: float
    last_event_s: float
    last_event: str
    objective: ObjectiveName = "top1"
    """Metric that a search optimises."""


def summaries_of(root: Path) -> Iterator[Summary]:
    """Yields a summary of every run below `root`, by name and from old to new."""
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for directory in runs_below(folder):
            yield summary_of(directory)


def summary_of(directory: RunDirectory) -> Summary:
    """Summarises one run; one whose journal cannot be read is `unreadable`, with the reason."""
    holder = holder_of(directory)  # before the journal: a run that ends meanwhile has recorded its end
    changed_s = directory.journal.stat().st_mtime
    try:
        events = list(read_events(directory.journal))
        search = SearchHistory.of(events, directory.journal)
    except (OSError, BadInput) as error:
        return _summary(directory, "search", ("unreadable", _reason(error, directory)), 0, {}, None, changed_s, None)
    last = events[-1] if events else None
    if events and isinstance(events[0], ComparisonStarted):
        comparison = ComparisonHistory.of(events, directory.journal)
        counts = {"complete": len(comparison.cells), "failed": len(comparison.cell_failures)}
        num_cells = _num_cells(comparison.last_started)
        ending = _ending(comparison.ended, directory) if holder is None else ("running", str(holder))
        return _summary(directory, "comparison", ending, num_cells, counts, None, events[0].time_s, last)
    winner = winner_of(search.trials.values(), search.baselines.values())
    return _summary(
        directory,
        "search",
        _ending(search.ended, directory) if holder is None else ("running", str(holder)),
        _num_trials(search.last_started),
        _counts(search, is_running=holder is not None),
        None if winner is None else winner.value,
        changed_s if search.started is None else search.started.time_s,
        last,
        search.objective,
    )


def _summary(
    directory: RunDirectory,
    kind: Literal["search", "comparison"],
    ending: tuple[State, str],
    num_asked: int | None,
    counts: Mapping[str, int],
    best: float | None,
    started_s: float,
    last: Event | None,
    objective: Objective = TOP1,
) -> Summary:
    return Summary(
        name=directory.experiment_name,
        run=directory.run,
        kind=kind,
        state=ending[0],
        why=ending[1],
        num_asked=num_asked,
        counts=dict(counts),
        best=best,
        started_s=started_s,
        last_event_s=started_s if last is None else last.time_s,
        last_event="" if last is None else last.event,
        objective=objective.name,
    )


def _reason(error: OSError | BadInput, directory: RunDirectory) -> str:
    """Returns the problem of the journal, without the directory, which the summary names."""
    if isinstance(error, OSError):
        return str(error)
    if isinstance(error, DamagedJournal):
        return error.brief
    return "; ".join(str(replace(problem, file=directory.journal.name)) for problem in error.problems)


def why_it_died(directory: RunDirectory) -> str:
    """Returns what is known of the end of a run that recorded none: the report of its exit monitor, or else which
    process it was."""
    try:
        report = directory.exit_report
        if report.stat().st_mtime >= directory.journal.stat().st_mtime:  # else it is of an earlier command
            return report.read_text(encoding="utf-8").strip()
    except OSError:  # the monitor ended with the machine, or the run is a copy from elsewhere
        pass
    return f"{last_holder_of(directory) or 'its process'} ended and recorded no reason"


def _ending(ended: SearchEnded | ComparisonEnded | None, directory: RunDirectory) -> tuple[State, str]:
    if ended is None:
        return "died", why_it_died(directory)
    return ended.outcome, "" if ended.outcome == "interrupted" else ended.why


def _counts(search: SearchHistory, is_running: bool) -> dict[str, int]:
    counts = Counter("open" if trial.state == "running" else trial.state for trial in search.trials.values())
    return {"running" if is_running and state == "open" else state: count for state, count in counts.items()}


def _num_trials(started: SearchStarted | None) -> int | None:
    """Number of trials asked for; None where time alone limits them."""
    if started is None or not started.dimensions:
        return int(started is not None)
    search: dict[str, Any] = started.space.get("search", {})
    trials = search.get("trials", 0)
    return None if trials is None else int(trials)


def _num_cells(started: ComparisonStarted | None) -> int:
    compare: dict[str, Any] = {} if started is None else started.space.get("compare", {})
    return len(compare.get("rows", ())) * max(1, len(compare.get("columns", ()))) * int(compare.get("seeds", 0))
