"""One line about each run below the experiments folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuner.record.events import Event, read_events
from tuner.record.find import runs_below
from tuner.record.history import History
from tuner.record.lock import holder_of
from tuner.record.selection import best_trial

State = Literal["running", "finished", "interrupted", "failed", "died", "unreadable"]


@dataclass(frozen=True)
class Summary:
    """A search or comparison in a line. Times are Unix times in seconds, scores top-1 in [0, 1]."""

    name: str
    run: str
    kind: Literal["search", "comparison"]
    state: State
    """`interrupted` by Ctrl-C or `tuner.stop`; `failed` by an error; `died` where its process was killed."""
    why: str
    """What ended it, or who runs it."""
    asked: int
    """Trials, or trainings of a comparison."""
    counts: dict[str, int]
    """Those begun, by state."""
    best: float | None
    started_s: float
    last_event_s: float
    last_event: str


def summaries_of(root: Path) -> Iterator[Summary]:
    """Every run below `root`, by name and from old to new."""
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for directory in runs_below(folder):
            yield summary_of(directory)


def summary_of(directory: Path) -> Summary:
    """How one run stands."""
    holder = holder_of(directory)  # before the journal: what has ended meanwhile has said so
    history = History()
    last_start: Event = {}
    last: Event = {"event": "", "time_s": (directory / "journal.jsonl").stat().st_mtime}
    try:
        for event in read_events(directory / "journal.jsonl"):
            history.apply(event)
            last_start = event if event["event"] in ("search_started", "comparison_started") else last_start
            last = event
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _unreadable(directory, f"{type(error).__name__}: {error}")
    state, why = _ending(history) if holder is None else ("running", str(holder))
    is_search = "comparison" not in last_start.get("event", "")
    best = best_trial(history.trials.values())
    return Summary(
        name=directory.parent.name,
        run=directory.name,
        kind="search" if is_search else "comparison",
        state=state,
        why=why,
        asked=_asked(last_start, is_search),
        counts=_counts(history)
        if is_search
        else {"complete": len(history.cells), "failed": len(history.cell_failures)},
        best=None if best is None else best.val_top1,
        started_s=history.started["time_s"] if history.started else last["time_s"],
        last_event_s=last["time_s"],
        last_event=last["event"],
    )


def _ending(history: History) -> tuple[State, str]:
    ended = history.finished
    if ended is None:
        return "died", "its process was killed"
    if ended["why"] == "interrupted":
        return "interrupted", ""
    return ("finished" if ended.keys() & {"seconds", "best_trial"} else "failed"), ended["why"]


def _counts(history: History) -> dict[str, int]:
    return dict(Counter(trial.state for trial in history.trials.values()))


def _asked(start: Event, is_search: bool) -> int:
    space: dict[str, Any] = start.get("space", {})
    if is_search:
        return int(space.get("search", {}).get("trials", 0)) if start.get("dimensions") else 1
    compare = space.get("compare", {})
    return len(compare.get("rows", ())) * max(1, len(compare.get("columns", ()))) * int(compare.get("seeds", 0))


def _unreadable(directory: Path, why: str) -> Summary:
    changed_s = (directory / "journal.jsonl").stat().st_mtime
    return Summary(
        directory.parent.name, directory.name, "search", "unreadable", why, 0, {}, None, changed_s, changed_s, ""
    )
