"""A projection in a process of its own, so that what MLflow's client computes and waits for is not taken from the
search. `python -m tuner.tracking` is that process; only `ProjectionProcess` starts it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tuner.messages.redaction import reason, redact_logging
from tuner.record.lock import MLFLOW_LOCK
from tuner.tracking.projection import Projection
from tuner.tracking.store import use_gentle_defaults

NICENESS = 10
"""Training goes first; MLflow may lag."""
END_S = 5.0
"""How long the process is given to end by itself."""


class Behind(Exception):
    """The process could not bring the store into line; its words are the store's."""


class ProjectionProcess:
    """A `Projection` in another process, which `advance` starts and waits for.

    To be closed, which `advance` in another thread notices by failing. The process ends with its parent's, however
    that ends.
    """

    def __init__(self, uri: str, experiment: str, directory: Path) -> None:
        use_gentle_defaults()
        self._given = {"uri": uri, "experiment": experiment, "directory": str(directory.absolute())}
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process; None before the first `advance`."""
        return self._process.pid if self._process is not None else None

    def advance(self) -> int:
        """As `Projection.advance`. Raises Behind where that fails, or the process died; the next call goes on."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        answer = _ask(process, {})
        if "failed" in answer:
            raise Behind(answer["failed"])
        return int(answer["num_events"])

    def close(self) -> None:
        """Ends the process. What it had not yet carried over, the next projection of this directory does."""
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
        _ask(process, self._given)
        return process


def _ask(process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer
    except (OSError, ValueError):
        raise Behind("the process that carries over to MLflow died; it is started again") from None


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
    """Of this process, with what can be imported here: the driver may run from a folder, or a test from any."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """For the block, no other process carries this directory over: two that did would make runs twice. Waits for one
    whose search was killed, and which is still at its last event."""
    with (directory / MLFLOW_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Answers on stdout, a line each, until stdin ends: with an experiment's address first, then for every `advance`.
    Whatever libraries print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, whose end this process sees through
    os.nice(NICENESS)
    redact_logging()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    given = json.loads(sys.stdin.readline())
    directory = Path(given["directory"])
    with only_writer(directory):
        projection = Projection(given["uri"], given["experiment"], directory)
        answers.write("{}\n")
        for _ in sys.stdin:
            try:
                answer: dict[str, Any] = {"num_events": projection.advance()}
            except Exception as error:  # whatever a store comes up with
                answer = {"failed": reason(error)}
            answers.write(json.dumps(answer) + "\n")
    return 0
