"""Runs that are on the disk: found by name, and one process at a time in each. Quick to import, to look at them."""

from __future__ import annotations

from pathlib import Path

from trainables.errors import BadInput, Problem, nearest
from tuner.record.events import read_events

EXPERIMENTS = Path("experiments")
"""Where experiments lie unless `tracking.directory` says otherwise."""


def runs_below(folder: Path, depth: int = 1) -> list[Path]:
    """The runs `depth` folders below that have begun, oldest first; of those named for one second, by the time of their
    first event."""
    return sorted((path.parent for path in folder.glob("*/" * depth + "journal.jsonl")), key=_began)


def _began(run: Path) -> tuple[str, float, str]:
    try:
        first = next(read_events(run / "journal.jsonl"), {})
    except ValueError:  # a journal that cannot be read is for whoever opens it to say
        first = {}
    return run.name[: len("20261124-180018")], first.get("time_s", 0.0), run.name


def find_run(text: str, root: Path, where: str = "") -> Path:
    """The run that a person means by `name` (its latest), `name/run` below `root`, or an experiment directory.

    Raises:
        BadInput: of `where`, if there is none.
    """
    for directory in (Path(text), root / text):
        if (directory / "journal.jsonl").exists():
            return directory.resolve()
    if text and (runs := runs_below(root / text)):
        return runs[-1].resolve()
    known = sorted({run.parent.parent.name for run in root.glob("*/*/journal.jsonl")})
    close = nearest(text, known)
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    raise BadInput(Problem(where, f"a name, a name/run below {root}, or an experiment directory{hint}", repr(text)))
