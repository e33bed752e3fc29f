"""Keeps MLflow in sync with the journal of a search or a comparison, event by event, as often as need be."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from trainables.errors import BadInput, Problem
from trainables.files import write_whole
from trainables.frozen import Frozen
from tuner.messages.redaction import without_credentials
from tuner.record.background import OnProgress
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, ComparisonStarted, SearchStarted
from tuner.record.lines import read_events, read_events_from
from tuner.tracking.comparison_projection import ComparisonProjection
from tuner.tracking.run_writer import RunWriter
from tuner.tracking.search_projection import SearchProjection
from tuner.tracking.store import open_store, use_gentle_defaults

LONGEST_WAIT_S = 1.0
"""For how long events are gathered before they are sent, where many are behind."""
DIGESTED_BYTES = 2**16
"""How much of the end of a journal is compared to tell it from others."""
DIED = "its process died"


class Cursor(Frozen):
    """How far a store is in sync: `offset` bytes of the journal, whose end has that `digest`, and the artifacts'
    versions that were `uploaded`."""

    uri: str
    experiment: str
    parent_run_id: str | None = None
    offset: int = 0
    digest: str = ""
    uploaded: tuple[str, ...] = ()


class Projection:
    """Writes to MLflow every event of a run's journal that it lacks.

    Times and steps come from the events and runs are found by their tags, so that writing an event twice changes
    nothing. Making one sends no request. Not thread-safe.

    Args:
        uri: the store, with its credentials.
        experiment: name of the MLflow experiment; it is made where there is none.
        directory: the run; it keeps how far the store is in sync, too.
    """

    def __init__(self, uri: str, experiment: str, directory: RunDirectory) -> None:
        use_gentle_defaults()
        self._uri = uri
        self._experiment = experiment
        self._directory = directory
        self._cursor = self._start
        self._projected: SearchProjection | ComparisonProjection | None = None

    @property
    def num_runs(self) -> int:
        """Number of runs that MLflow is known to have of this search or comparison."""
        return 0 if self._projected is None else len(self._projected.writer.names)

    def forget(self) -> None:
        """Forgets what is known of the store: the next `advance` writes every event."""
        self._projected = None
        self._directory.mlflow_cursor.unlink(missing_ok=True)

    def advance(self, on_progress: OnProgress = lambda: None) -> int:
        """Writes every event that MLflow lacks, then the artifacts, and returns the number of events.

        Calls `on_progress` whenever a part of them is in the store.

        Raises what MLflow raises, and as `read_events`; the next call goes on from there. Only what MLflow refuses for
        good, and would refuse again, is left out, which the log then says.
        """
        projected = self._projected = self._projected or self._attach()
        if projected is None:
            return 0
        before, num_events, end = self._cursor, 0, self._cursor.offset
        due_s = time.monotonic() + LONGEST_WAIT_S
        try:
            for event, end in read_events_from(self._directory.journal, before.offset):
                projected.project(event)
                if isinstance(event, SearchStarted | ComparisonStarted | ComparisonEnded):
                    self._move_cursor(uploaded=())  # the files may have changed since they were last written
                num_events += 1
                if time.monotonic() >= due_s:
                    self._send(projected.writer, end)
                    on_progress()
                    due_s = time.monotonic() + LONGEST_WAIT_S
            self._send(projected.writer, end)
            on_progress()
            self._upload_artifacts(projected.writer, on_progress)
        except BaseException:
            self._projected = None  # its history may be ahead, and a request that failed may have made a run
            raise
        finally:
            if self._cursor != before:
                write_whole(self._directory.mlflow_cursor, self._cursor.model_dump_json(indent=2).encode() + b"\n")
        return num_events

    def kill_unfinished(self) -> bool:
        """Ends the runs of a search whose process was killed before it could say so; returns whether it was.

        To be called after `advance`, and only while no process runs the search. A search that goes on sets its runs
        running again.
        """
        if self._projected is None or self._projected.history.ended is not None:
            return False
        last_s = max(event.time_s for event in read_events(self._directory.journal))
        self._projected.kill(last_s, DIED)
        return True

    @property
    def _start(self) -> Cursor:
        return Cursor(uri=without_credentials(self._uri), experiment=self._experiment)

    def _attach(self) -> SearchProjection | ComparisonProjection | None:
        """Finds out what MLflow has of this run; None where the run has not begun."""
        started = read_start(self._directory)
        if started is None:
            return None
        client, experiment_id = open_store(self._uri, self._experiment)
        writer = RunWriter(client, experiment_id, started.run)
        self._cursor = self._read_cursor(writer.parent_id)
        projected: SearchProjection | ComparisonProjection
        if isinstance(started, SearchStarted):
            projected = SearchProjection(writer, self._directory, started)
        else:
            projected = ComparisonProjection(writer)
        for event, end in read_events_from(self._directory.journal, 0):
            if end > self._cursor.offset:
                break
            projected.apply(event)
        return projected

    def _read_cursor(self, parent_id: str | None) -> Cursor:
        """Where the last process stopped; the start, if that was another store, the store has lost the search, or the
        journal is another one: in a mirror the cursor may be ahead of the journal, which then goes on otherwise."""
        try:
            saved = Cursor.model_validate_json(self._directory.mlflow_cursor.read_bytes())
        except (OSError, ValidationError):
            return self._start
        same_store = (saved.uri, saved.experiment) == (self._start.uri, self._start.experiment)
        known = saved.parent_run_id is not None and saved.parent_run_id == parent_id
        if not (same_store and known):
            return self._start
        return saved if saved.digest == self._digest(saved.offset) else self._start

    def _digest(self, offset: int) -> str:
        """Digest of the end of the journal's first `offset` bytes. Events have times, so that no other journal has
        it."""
        with self._directory.journal.open("rb") as journal:
            journal.seek(max(0, offset - DIGESTED_BYTES))
            return sha256(journal.read(min(offset, DIGESTED_BYTES))).hexdigest()

    def _send(self, writer: RunWriter, end: int) -> None:
        """Sends what waits, which with it is all of the journal up to byte `end`."""
        writer.send()
        self._move_cursor(offset=end, digest=self._digest(end), parent_run_id=writer.parent_id)

    def _move_cursor(self, **changes: object) -> None:
        self._cursor = self._cursor.model_copy(update=changes)

    def _upload_artifacts(self, writer: RunWriter, on_progress: OnProgress) -> None:
        """Writes the files that are there and not yet in the store.

        After the events: where the store for files is away, that must not hold them up.
        """
        if writer.parent_id is None:
            return
        for file in self._directory.artifacts:
            if not file.exists():
                continue
            version = f"{file.name} {file.stat().st_mtime_ns}"  # a report is rewritten whenever there is more to report
            if version not in self._cursor.uploaded:
                self._upload(writer, file)
                self._move_cursor(uploaded=(*self._cursor.uploaded, version))
                on_progress()

    def _upload(self, writer: RunWriter, file: Path) -> None:
        """Writes one file. Each text of the pages was freed of credentials: in markup a secret's end could not be told,
        and tables hold nothing that a user wrote but names of files and classes."""
        if file in (self._directory.predictions_table, self._directory.predictions_csv):
            writer.write_artifact_file(file)
            return
        text = file.read_text(encoding="utf-8")
        is_page = file in (self._directory.report, self._directory.mistakes)
        name = file.relative_to(self._directory.path).as_posix()
        writer.write_artifact(name, text if is_page else without_credentials(text))


def read_start(directory: RunDirectory) -> SearchStarted | ComparisonStarted | None:
    """Reads the event with which a run began; None where it has not begun.

    Raises:
        BadInput: where the journal begins with another event; and as `read_events`.
    """
    first = next(read_events(directory.journal), None)
    if first is None or isinstance(first, SearchStarted | ComparisonStarted):
        return first
    expected = "the start of a search or a comparison as first event"
    raise BadInput(Problem("", expected, first.event, file=str(directory.journal)))
