"""A projection in a process of its own, so that MLflow's client takes no time from the search.

`python -m tuner.tracking` is that process; only `ProjectionProcess` starts it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.frozen import Frozen
from tuner.messages.redaction import reason, redact_logging
from tuner.record.background import OnProgress
from tuner.record.directory import RunDirectory
from tuner.tracking.projection import Projection
from tuner.tracking.store import use_gentle_defaults

NICENESS = 10
"""Training goes first; MLflow may lag."""
END_S = 5.0
"""How long the process is given to end by itself."""


class Behind(Exception):
    """The process could not sync the store. The message is the store's, in one line without credentials."""


class _Target(Frozen):
    """First line to the process: what to write, and where; see `Projection`. Each later line asks for an `advance`."""

    uri: str
    experiment: str
    directory: Path


class _Answer(Frozen):
    """Line from the process: for each line to it any number that say progress, and one that `is_last`. `failure` says
    in one line why an `advance` failed."""

    is_last: bool = True
    num_events: int = 0
    failure: str | None = None


class ProjectionProcess:
    """A `Projection` in another process, which `advance` starts and waits for.

    To be closed; an `advance` in another thread then fails. The process ends with its parent's, however that ends.
    """

    def __init__(self, uri: str, experiment: str, directory: RunDirectory) -> None:
        use_gentle_defaults()
        self._target = _Target(uri=uri, experiment=experiment, directory=directory.path.absolute())
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Number of the process; None before the first `advance`."""
        return self._process.pid if self._process is not None else None

    def advance(self, on_progress: OnProgress = lambda: None) -> int:
        """Does what `Projection.advance` does. Raises Behind where that fails, or the process died; the next call goes
        on."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
            on_progress()
        answer = _ask(process, "", on_progress)
        if answer.failure is not None:
            raise Behind(answer.failure)
        return answer.num_events

    def close(self) -> None:
        """Ends the process. What it has not written yet, the next projection of this directory writes."""
        self._closed = True
        if self._process is not None:
            self._process.terminate()
            _end(self._process)

    def _start(self) -> subprocess.Popen[str]:
        if self._closed:
            raise Behind("it was closed")
        if self._process is not None:
            _end(self._process)
        command = [sys.executable, "-m", __package__]
        # The URI goes by the pipe: anyone on the machine sees arguments, and it may hold a password.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        self._process = process
        _ask(process, self._target.model_dump_json())
        return process


def _ask(process: subprocess.Popen[str], line: str, on_progress: OnProgress = lambda: None) -> _Answer:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        while not (answer := _Answer.model_validate_json(process.stdout.readline())).is_last:
            on_progress()
        return answer
    except (OSError, ValueError):
        raise Behind("the process that writes to MLflow died; it is started again") from None


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what a dead process was to read
            if pipe is not None:
                pipe.close()


def _environment() -> dict[str, str]:
    """Environment of this process, with what can be imported here: the driver may run from any folder."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextmanager
def only_writer(directory: RunDirectory) -> Iterator[None]:
    """Locks, for the block, what writes this run to MLflow: two processes at once would make runs twice.

    Waits for the process of a search that was killed, which may still be at its last event.
    """
    with directory.mlflow_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Reads a `_Target` from stdin, then advances at each further line, and answers every line on stdout.

    Whatever libraries print goes to stderr.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # are for the search, whose end this process sees through
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    redact_logging()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: _Answer) -> None:
        answers.write(answer.model_dump_json() + "\n")

    def say_progress() -> None:
        with suppress(OSError):  # nobody reads it if the search was killed, whose events are written all the same
            say(_Answer(is_last=False))

    target = _Target.model_validate_json(sys.stdin.readline())
    directory = RunDirectory(target.directory)
    with only_writer(directory):
        projection = Projection(target.uri, target.experiment, directory)
        say(_Answer())
        for _ in sys.stdin:
            try:
                answer = _Answer(num_events=projection.advance(say_progress))
            except Exception as error:  # each store and driver has errors of its own
                answer = _Answer(failure=reason(error))
            say(answer)
    return 0
