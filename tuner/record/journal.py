"""The journal: append-only log of one search or comparison, and the history that it amounts to.

Everything else (MLflow, the Optuna study, the progress display) is a projection of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Generic, TypeVar

from tuner.record.directory import RunDirectory
from tuner.record.events import Event, Header, encode
from tuner.record.history import ComparisonHistory, SearchHistory

H = TypeVar("H", SearchHistory, ComparisonHistory)
E = TypeVar("E", bound=Event)

Listener = Callable[[Event, H], None]
"""Called with each event once it is on the disk, and with the history that includes it."""


class Journal(Generic[H]):
    """Appends events to a run's journal. One writer: the driver.

    `history` is an empty one, to be filled from the file. A last line that a crash cut off is removed.

    Raises:
        BadInput: where the file is no journal of this format; see `read_events`.
    """

    def __init__(self, directory: RunDirectory, history: H) -> None:
        self.directory = directory
        self.path = directory.journal
        self.listeners: list[Listener[H]] = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        self.history: H = history.read(self.path)
        self._file = self.path.open("ab", buffering=0)  # what a full disk refuses must not wait in a buffer

    def append(self, event: E) -> E:
        """Writes one event, through to the disk, then takes it into the history and tells the listeners.

        Raises:
            OSError: with the journal's path, where the disk is full or gone. Nothing of the event is left in the file.
        """
        is_first = self._file.seek(0, os.SEEK_END) == 0
        try:
            _write_through(self._file, (encode(Header()) if is_first else b"") + encode(event))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.history.apply(event)
        for listener in self.listeners:
            listener(event, self.history)
        return event

    def close(self) -> None:
        """Closes the file; the history stays."""
        self._file.close()


SearchJournal = Journal[SearchHistory]
ComparisonJournal = Journal[ComparisonHistory]


def open_search_journal(directory: RunDirectory) -> SearchJournal:
    """Opens the journal of a search."""
    return Journal(directory, SearchHistory())


def open_comparison_journal(directory: RunDirectory) -> ComparisonJournal:
    """Opens the journal of a comparison."""
    return Journal(directory, ComparisonHistory())


def _write_through(file: FileIO, line: bytes) -> None:
    """Appends all of `line` and waits for the disk, or leaves the file as it was."""
    end = file.seek(0, os.SEEK_END)
    try:
        rest = memoryview(line)
        while rest:  # a disk that fills up takes a part first
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def _drop_torn_line(path: Path) -> None:
    """Cuts off a last line without its end, which a crash in the middle of a write leaves."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
