"""Finds runs on the disk by name. Quick to import: the parsers of all commands import it."""

from __future__ import annotations

import calendar
import contextlib
import os
import time
from pathlib import Path

from trainables.errors import BadInput, Problem, did_you_mean
from tuner.record.directory import JOURNAL, TIME_FORMAT, RunDirectory

EXPERIMENTS = Path("experiments")
"""Default of `tracking.directory`."""


def runs_below(folder: Path, depth: int = 1) -> list[RunDirectory]:
    """Lists the runs `depth` folders below `folder` that have begun, oldest first.

    The time of the first event counts, whatever a run's name says: runs of an earlier version were named by local time.
    """
    return sorted((RunDirectory(path.parent) for path in folder.glob("*/" * depth + JOURNAL)), key=_began)


def _began(directory: RunDirectory) -> tuple[float, str]:
    """Unix time of the first event, and the run's name; if there is none that can be read, the time in the name."""
    from tuner.record.lines import read_events  # with pydantic

    try:
        first = next(read_events(directory.journal), None)
    except (OSError, BadInput):  # a journal that cannot be read is refused where it is opened
        first = None
    return _named_s(directory) if first is None else first.time_s, directory.run


def _named_s(directory: RunDirectory) -> float:
    """Unix time in the name of a run; of one that has none, when its journal was last written."""
    try:
        return calendar.timegm(time.strptime(directory.run.rpartition("-")[0], TIME_FORMAT))
    except ValueError:
        with contextlib.suppress(OSError):  # it was removed meanwhile
            return directory.journal.stat().st_mtime
        return 0.0


def find_run(text: str, root: Path, where: str = "") -> RunDirectory:
    """Finds a run by `name` (the latest one) or `name/run` below `root`, or by its directory.

        find_run("smile-digits", EXPERIMENTS).journal

    Raises:
        BadInput: at the flag or argument `where`, if there is none.
    """
    for directory in (RunDirectory(Path(text)), RunDirectory(root / text)):
        if directory.has_begun:
            return RunDirectory(directory.path.resolve())
    if text and os.path.isdir(root / text) and (runs := runs_below(root / text)):
        return RunDirectory(runs[-1].path.resolve())
    known = sorted({run.experiment_name for run in runs_below(root, depth=2)})
    expected = f"a name, a name/run below {root}, or an experiment directory"
    raise BadInput(Problem(where, expected, f"{text!r}{did_you_mean(text, known)}"))
