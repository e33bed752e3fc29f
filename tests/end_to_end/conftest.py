"""The service as a user drives it: real processes, real Ray, a real MLflow store, each in a folder of its own.

A search of this size costs about a minute on two cores, most of it the start of Ray and its workers; so each is run
once and looked at from many sides.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import events_in, write_yaml

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DEADLINE_S = 480  # for a machine that is busy with something else: such a search takes half a minute on an idle one
SPACE: dict[str, Any] = {
    "search": {"trials": 3, "folds": 2, "concurrency": 1, "first_points": [{"gamma_fe": 0.02}]},
    "resources": {"cpus": 1, "gpus": 0.25},
    "retrain": {"seeds": 2},
}


@dataclass(frozen=True)
class Run:
    """A command that has ended, and the folder that it was given in."""

    folder: Path
    code: int
    out: str
    err: str

    @property
    def outcome(self) -> dict[str, Any]:
        return json.loads((self.folder / "outcome.json").read_text())

    @property
    def directory(self) -> Path:
        (directory,) = (self.folder / "experiments" / "tiny").iterdir()
        return directory

    @property
    def events(self) -> list[dict[str, Any]]:
        return events_in(self.directory / "journal.jsonl")


def clean_environment() -> dict[str, str]:
    """Without what would point the command at the store or cluster of whoever runs the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "TUNE_"))}


def give(module: str, *arguments: str, folder: Path) -> Run:
    """`python -m <module> <arguments>` in `folder`."""
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return Run(folder, ended.returncode, ended.stdout, ended.stderr)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Until something holds; fails when the process ends before, or the deadline passes."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search from its beginning to its end."""
    folder = tmp_path_factory.mktemp("finished")
    write_yaml(folder, **SPACE)
    return give("tuner.search", "--space", "tiny.yaml", "--json", "outcome.json", folder=folder)


@dataclass(frozen=True)
class Interrupted:
    """The same search, begun with fewer trials, cut off by Ctrl-C after its first fold, and gone on with."""

    first: Run
    events: list[dict[str, Any]]
    second: Run


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    write_yaml(folder, **SPACE)
    command = [sys.executable, "-m", "tuner.search", "--space", "tiny.yaml", "--trials", "2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=clean_environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as search:
        wait_until(lambda: "fold_finished" in journal_text(folder), search)
        os.killpg(search.pid, signal.SIGINT)  # as a terminal does it: to all processes in the foreground
        out, err = search.communicate(timeout=DEADLINE_S)
    first = Run(folder, search.returncode, out, err)
    before = first.events
    arguments = ["--space", "tiny.yaml", "--trials", "3", "--resume", "--json", "outcome.json"]
    return Interrupted(first, before, give("tuner.search", *arguments, folder=folder))


def journal_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("experiments/*/*/journal.jsonl"))


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run on several processes, these keep to one: each starts a Ray cluster of its own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("service"))
