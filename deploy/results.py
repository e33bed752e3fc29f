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
from tuner.record.directory import RunDirectory
from tuner.record.find import runs_below
from tuner.record.history import SearchHistory
from tuner.record.selection import winner_of

ABSOLUTE_PATH = "an absolute path on the cluster"
"""What `is_absolute` expects, for messages."""


@dataclass(frozen=True)
class Progress:
    """Number of trials of a search, the mean validation top-1 of the best complete one (in [0, 1]; None where there is
    none), and whether the search has finished."""

    trials: int
    best_top1: float | None
    has_finished: bool


def is_absolute(place: str) -> bool:
    """Whether `place`, a path or a URI, means the same in every working folder."""
    return place.startswith("/") or "://" in place


def newest_run(directory: Path) -> RunDirectory | None:
    """The newest run of a job; None where none has begun or this machine does not see it.

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


def progress_of(run: RunDirectory) -> Progress:
    """Reads the progress of a search from its journal.

    Raises:
        BadInput: where the journal cannot be understood.
        OSError: where it cannot be read.
    """
    history = SearchHistory.read(run.journal)
    winner = winner_of(history.trials.values(), history.baselines.values())
    has_finished = history.ended is not None and history.ended.outcome == "finished"
    return Progress(len(history.trials), None if winner is None else winner.val_top1, has_finished)


def fetch_newest_run(mirror: str, folder: Path) -> RunDirectory | None:
    """Copies the newest run of a job from its mirror into `folder`; None where the mirror has no run.

    Raises:
        BadInput: where the mirror cannot be read.
    """
    from tuner.record.mirror import Mirror, download_run

    for experiment in Mirror.of(mirror).names():  # a job has one
        download_run(mirror, experiment, folder)
    return newest_run(folder)


def copy_run(run: RunDirectory, target: Path) -> RunDirectory:
    """Copies model, report and record of a run to `target`, completely or not at all, and returns the copy.

    An earlier copy there is replaced. Ray's own files, checkpoints, logs and locks are not copied. The search may go on
    meanwhile: the journal is copied first, so that it mentions no file that the copy lacks.

    Raises:
        BadInput: where `target` holds something that is no copy of a run.
    """
    copy = RunDirectory(target)
    if target.exists() and not copy.has_begun and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(Problem("--to", "a folder that is new, empty or an earlier copy", str(target)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        fresh = RunDirectory(Path(temporary) / "results")
        fresh.path.mkdir()
        shutil.copyfile(run.journal, fresh.journal)
        for file in _files_of(run):
            place = fresh.path / file.relative_to(run.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a file that was written anew meanwhile
                shutil.copyfile(file, place)
        if target.exists():
            shutil.rmtree(target)
        fresh.path.rename(target)
    return copy


def _files_of(run: RunDirectory) -> list[Path]:
    """The files that are copied, but for the journal."""
    others = (run.journal, run.lock, run.mlflow_lock)
    files = [path for path in run.path.iterdir() if path.is_file() and path not in others]
    return files + [path for path in run.model.rglob("*") if path.is_file()]
