"""Finds runs on the disk by name. Quick to import: the parsers of all commands import it."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.errors import BadInput, Problem, did_you_mean
from tuner.record.directory import JOURNAL, RunDirectory

EXPERIMENTS = Path("experiments")
"""Default of `tracking.directory`."""


def runs_below(folder: Path, depth: int = 1) -> list[RunDirectory]:
    """Lists the runs `depth` folders below `folder` that have begun, oldest first.

    Runs started in the same second are in the order of their first events.
    """
    return sorted((RunDirectory(path.parent) for path in folder.glob("*/" * depth + JOURNAL)), key=_began)


def _began(directory: RunDirectory) -> tuple[str, float, str]:
    from tuner.record.lines import read_events  # with pydantic

    try:
        first = next(read_events(directory.journal), None)
    except (OSError, BadInput):  # a journal that cannot be read is refused where it is opened
        first = None
    return directory.run[: len("20261124-180018")], 0.0 if first is None else first.time_s, directory.run


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
