"""A projection in a process of its own: as one in this process, and none's death costs more than itself."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import DEAD, NAME, Store, run_trial, start_search, whole_search
from tuner.record.directory import RunDirectory
from tuner.record.journal import SearchJournal
from tuner.record.lines import read_events
from tuner.tracking.process import Behind, ProjectionProcess

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]


@pytest.fixture
def process(uri: str, directory: RunDirectory) -> Iterator[ProjectionProcess]:
    process = ProjectionProcess(uri, NAME, directory)
    yield process
    process.close()


def test_it_writes_what_is_new(process: ProjectionProcess, journal: SearchJournal, store: Store) -> None:
    whole_search(journal)
    assert process.advance() == len(list(read_events(journal.path)))
    assert process.advance() == 0
    assert len(store.runs) == 7


def test_it_says_that_it_gets_on(process: ProjectionProcess, journal: SearchJournal) -> None:
    whole_search(journal)
    said: list[str] = []
    process.advance(lambda: said.append("further"))
    assert len(said) >= 2, "once it has started, and once events are in the store"


def test_one_that_was_killed_is_started_again(process: ProjectionProcess, journal: SearchJournal, store: Store) -> None:
    start_search(journal)
    process.advance()
    killed = process.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    run_trial(journal, 0, [0.7])
    process.advance()
    assert process.pid != killed
    assert store.runs["trial-0000"].data.metrics["val_top1"] == 0.7


def test_ctrl_c_is_not_for_it(process: ProjectionProcess, journal: SearchJournal) -> None:
    start_search(journal)
    process.advance()
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    run_trial(journal, 0, [0.7])
    assert process.advance() > 0
    assert process.pid == pid


def test_a_store_that_is_away_is_said_without_its_password(directory: RunDirectory, journal: SearchJournal) -> None:
    start_search(journal)
    with closing(ProjectionProcess(DEAD, NAME, directory)) as process:
        with pytest.raises(Behind, match="NewConnectionError") as away:
            process.advance()
        assert "hunter2" not in str(away.value)
        assert b"hunter2" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_whoever_waits_for_one_that_is_closed_is_told(
    process: ProjectionProcess, directory: RunDirectory, journal: SearchJournal
) -> None:
    """Here it waits for another process, that of a search which was killed and is not gone yet."""
    start_search(journal)
    said: list[BaseException] = []

    def wait() -> None:
        try:
            process.advance()
        except Behind as behind:
            said.append(behind)

    with directory.mlflow_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait)
        waiting.start()
        while process.pid is None and waiting.is_alive():
            pass
        process.close()
        waiting.join()
    assert len(said) == 1
    with pytest.raises(Behind):
        process.advance()


def test_it_needs_no_torch() -> None:
    """It lives beside the training: a second torch would cost seconds and hundreds of megabytes."""
    imports = "import sys, tuner.tracking.process; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", imports]).returncode == 0
