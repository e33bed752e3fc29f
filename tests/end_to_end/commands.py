"""Commands as a user gives them: run to their end in a process of their own, or started and watched."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.forked import ERR, OUT, clean_environment, run_forked
from tests.end_to_end.records import Event, events_of

DEADLINE_S = 480  # for a machine that is busy with something else: a search takes half a minute on an idle one


@dataclass(frozen=True)
class Run:
    """A command that has ended, and the folder that it was given in."""

    folder: Path
    code: int
    out: str
    err: str

    @property
    def outcome(self) -> dict[str, Any]:
        """What `--json outcome.json` wrote."""
        return json.loads((self.folder / "outcome.json").read_text())

    @property
    def directory(self) -> Path:
        """The run directory of the one search or comparison in the folder."""
        (directory,) = (self.folder / "experiments" / "tiny").iterdir()
        return directory

    @property
    def events(self) -> list[Event]:
        """The journal so far, oldest first."""
        return events_of(self.directory)


def run_command(module: str, *arguments: str, folder: Path, environment: Mapping[str, str] | None = None) -> Run:
    """Runs `python -m module arguments` in `folder`, forked from a process that has imported everything.

    `environment` is added to that of the tests.
    """
    with tempfile.TemporaryDirectory(prefix="command-") as output:
        files = Path(output)
        variables = clean_environment() | dict(environment or {})
        code = run_forked(module, arguments, folder, variables, files, DEADLINE_S)
        return Run(folder, code, (files / OUT).read_text(), (files / ERR).read_text())


def run_process(module: str, *arguments: str, folder: Path, environment: Mapping[str, str] | None = None) -> Run:
    """Runs the same in a Python process of its own, from its start: for what imports print, and Ray's environment."""
    with start_process(module, *arguments, folder=folder, environment=environment) as process:
        return ended(process, folder)


def start_process(
    module: str,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Starts `python -m module arguments` as the leader of a process group, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=clean_environment() | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], folder: Path) -> Run:
    """Waits for the end of a started command; kills it where it outlives the deadline."""
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Run(folder, process.returncode, out, err or "")


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Waits until something holds; fails when the process ends before, or the deadline passes."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.05)
