"""Results of a job: where they are, how far its search has come, and copying them to this machine.

The only module of `deploy` that reads the record of a search (`tuner.record`).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import BadInput, Problem
from tuner.record.events import JOURNAL
from tuner.record.find import runs_below
from tuner.record.history import History
from tuner.record.lock import LOCKS
from tuner.record.selection import best_trial

FOLDERS = ("model",)
"""Copied besides the files at the top of a run's directory; Ray's own files, checkpoints and logs are not."""

ABSOLUTE_PATH = "an absolute path on the cluster"
"""What `is_absolute` expects, for messages."""


@dataclass(frozen=True)
class Progress:
    """Number of trials of a search, the best mean validation top-1 among the complete ones (in [0, 1]; None where there
    is none), and whether the search has finished."""

    trials: int
    best_top1: float | None
    has_finished: bool


def is_absolute(place: str) -> bool:
    """Whether `place`, a path or a URI, means the same in every working folder."""
    return place.startswith("/") or "://" in place


def newest_run(directory: Path) -> Path | None:
    """The directory of the newest run of a job; None where none has begun or this machine does not see it.

    `directory` is the job's own folder, which holds `<experiment>/<run>/`.
    """
    runs = runs_below(directory, depth=2)
    return runs[-1] if runs else None


def has_begun(directory: Path, mirror: str | None, experiment: str) -> bool:
    """Whether there is a run of the job, in its folder or in its mirror. Raises BadInput where the mirror cannot be
    written."""
    in_mirror = False
    if mirror is not None:
        from tuner.record.mirror import Mirror  # with pyarrow, for which the other commands need not wait

        in_mirror = Mirror.open(mirror).newest_run(experiment) is not None
    return in_mirror or newest_run(directory) is not None


def progress_of(run: Path) -> Progress:
    """Reads the progress of the search in a run's directory."""
    history = History.read(run)
    best = best_trial(history.trials.values())
    return Progress(len(history.trials), None if best is None else best.val_top1, bool(history.finished))


def fetch_newest_run(mirror: str, folder: Path) -> Path | None:
    """Copies the newest run of a job from its mirror into `folder`; None where the mirror has no run.

    Raises:
        BadInput: where the mirror cannot be read.
    """
    from tuner.record.mirror import Mirror, fetch

    for experiment in Mirror.of(mirror).names():  # a job has one
        fetch(mirror, experiment, folder)
    return newest_run(folder)


def copy_run(run: Path, target: Path) -> None:
    """Copies model, report and record of a run to `target`, completely or not at all, in place of an earlier copy.

    The search may go on meanwhile: the journal is copied first, so that it mentions no file that the copy lacks.

    Raises:
        BadInput: where `target` holds something that is no copy of a run.
    """
    if target.exists() and not (target / JOURNAL).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(Problem("--to", "a folder that is new, empty or an earlier copy", str(target)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        fresh = Path(temporary) / "results"
        fresh.mkdir()
        shutil.copyfile(run / JOURNAL, fresh / JOURNAL)
        for file in _files_of(run):
            copy = fresh / file.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a file that was written anew meanwhile
                shutil.copyfile(file, copy)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)


def _files_of(run: Path) -> list[Path]:
    """The files that are copied, but for the journal."""
    files = [path for path in run.iterdir() if path.is_file() and path.name not in (JOURNAL, *LOCKS)]
    return files + [path for folder in FOLDERS for path in (run / folder).rglob("*") if path.is_file()]
