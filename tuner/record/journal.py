"""The experiment directory: what a search knows, kept where a crash cannot take it.

    experiments/<name>/<run>/        run = the time at which the search was started
        space.yaml                   the resolved experiment; `--resume` reads it
        journal.jsonl                one event a line, appended and synced; the durable truth
        environment.json             versions, host, command
        model/                       the best configuration, retrained (of a search)
        report.html, best.yaml       what it has found, for a person; its best configuration, to be run (of a search)
        searches/, comparison.*      the rows' own searches, and the tables (of a comparison)
        logs/                        what Ray and MLflow had to say

Everything else (MLflow, the Optuna study, the progress display) is a projection of the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from tuner.record.events import JOURNAL, Event
from tuner.record.history import History

Listener = Callable[[Event, History], None]
"""Told of each event once it is on the disk, with the history that includes it."""


class Journal:
    """Append-only log of one search or comparison, and the history that it amounts to. One writer: the driver."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / JOURNAL
        self.listeners: list[Listener] = []
        directory.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        self.history = History.read(directory)
        self._file = self.path.open("ab", buffering=0)  # what a full disk refuses must not wait in a buffer

    def append(self, kind: str, **fields: Any) -> Event:
        """Writes one event, through to the disk, then takes it in.

        Raises:
            OSError: with the journal's path, where the disk will not have it. Nothing of the event is left there.
        """
        event = {"event": kind, "time_s": time.time(), **fields}
        try:
            _write_through(self._file, (json.dumps(event) + "\n").encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.history.apply(event)
        for listener in self.listeners:
            listener(event, self.history)
        return event

    def close(self) -> None:
        """Closes the file; the history stays."""
        self._file.close()


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
    """Cuts off a last line without its end, which a crash in the middle of a write leaves behind."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
