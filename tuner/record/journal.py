"""The journal: the append-only log of one search or comparison.

Everything else (MLflow, the Optuna study, the progress display) is a projection of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Generic, TypeVar

from tuner.record.directory import RunDirectory
from tuner.record.events import Event, Header
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.lines import encode, read_events

H = TypeVar("H", SearchHistory, ComparisonHistory)
E = TypeVar("E", bound=Event)

Listener = Callable[[Event, H], None]
"""Function called with each event once it is on the disk, and with the history that includes it."""


class Journal(Generic[H]):
    """Append-only log of a run's events, with the history that they make. It has one writer, the driver.

    `history` is an empty one, to be filled from the file. A last line without its end, which a crash leaves, is
    removed.

        with closing(open_search_journal(directory)) as journal:
            journal.append(TrialEnded(trial=3, state="failed", reason="diverged"))
            journal.history.trials[3].state  # "failed"

    Raises:
        BadInput: if the file is no journal of this format; see `read_events`.
    """

    def __init__(self, directory: RunDirectory, history: H) -> None:
        self.directory = directory
        self.path = directory.journal
        self.listeners: list[Listener[H]] = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.history: H = history
        history.replay(read_events(self.path), self.path)
        _drop_torn_line(self.path)  # after a look at it: a journal of zeros is refused, not emptied
        self._file = self.path.open("ab", buffering=0)  # else a full disk would fail later than `append`

    def append(self, event: E) -> E:
        """Writes one event and syncs it to the disk, then applies it to the history and calls the listeners.

        Raises:
            OSError: with the journal's path, if the disk is full or gone, or the file was removed or replaced. Nothing
                of the event is left in the file.
        """
        is_first = self._file.seek(0, os.SEEK_END) == 0
        try:
            _write_through(self._file, (encode(Header()) if is_first else b"") + encode(event))
            _check_reachable(self._file, self.path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.history.apply(event)
        for listener in self.listeners:
            listener(event, self.history)
        return event

    def close(self) -> None:
        """Closes the file, and removes one without an event, as of a run that was refused; the history stays."""
        self._file.close()
        with contextlib.suppress(OSError):  # the disk may be gone
            if self.path.stat().st_size == 0:
                self.path.unlink()


SearchJournal = Journal[SearchHistory]
ComparisonJournal = Journal[ComparisonHistory]


def open_search_journal(directory: RunDirectory) -> SearchJournal:
    """Opens the journal of a search, whose history keeps no curves."""
    return Journal(directory, SearchHistory(keeps_curves=False))


def open_comparison_journal(directory: RunDirectory) -> ComparisonJournal:
    """Opens the journal of a comparison."""
    return Journal(directory, ComparisonHistory())


def _write_through(file: FileIO, line: bytes) -> None:
    """Appends all of `line` and syncs it to the disk, or leaves the file as it was."""
    end = file.seek(0, os.SEEK_END)
    try:
        rest = memoryview(line)
        while rest:  # on a disk that fills up, the first write is partial
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def _check_reachable(file: FileIO, path: Path) -> None:
    """Raises OSError if `path` is no longer the open file, which then is written without anybody to read it."""
    try:
        is_there = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        is_there = False
    if not is_there:
        raise FileNotFoundError(errno.ENOENT, "removed or replaced while the run was writing it")


def _drop_torn_line(path: Path) -> None:
    """Removes a last line without its end, which a crash in the middle of a write leaves."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
