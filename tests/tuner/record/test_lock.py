"""Each run directory belongs to one process at a time."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import BadInput
from tuner.record.directory import RunDirectory
from tuner.record.lock import LockHolder, holder_of, locked

HERE = LockHolder(os.getpid(), socket.gethostname())

SECOND_PROCESS = """
import sys
from pathlib import Path
from trainables.errors import BadInput
from tuner.record.directory import RunDirectory
from tuner.record.lock import locked
try:
    locked(RunDirectory(Path(sys.argv[1])))
except BadInput as bad:
    print(bad)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


class TestLock:
    def test_a_second_process_is_told_who_has_it_and_what_to_do(self, run: RunDirectory) -> None:
        with locked(run):
            second = subprocess.run(
                [sys.executable, "-c", SECOND_PROCESS, str(run)], capture_output=True, text=True, check=True
            )
        assert f"got process {os.getpid()} on {socket.gethostname()} (" in second.stdout
        assert f"python -m tuner.stop {run} ends it" in second.stdout
        locked(run).close()

    def test_does_not_outlive_its_process(self, run: RunDirectory) -> None:
        run.lock.write_text("4194304 elsewhere\n")  # as a process that was killed leaves it
        assert holder_of(run) is None
        locked(run).close()

    def test_asking_who_has_it_takes_it_from_nobody(self, run: RunDirectory) -> None:
        assert holder_of(run) is None
        with locked(run):
            assert holder_of(run) == HERE
            with pytest.raises(BadInput):
                locked(run)
        assert holder_of(run) is None

    def test_a_holder_of_another_machine_is_not_here(self, run: RunDirectory) -> None:
        with locked(run):
            run.lock.write_text("17 elsewhere\n")
            holder = holder_of(run)
            assert holder == LockHolder(17, "elsewhere")
            assert not holder.is_here
            with pytest.raises(BadInput, match="process 17 on elsewhere"):
                locked(run)

    def test_a_file_system_without_locks_is_refused(self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        def flock(*_: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("tuner.record.lock.fcntl.flock", flock)
        with pytest.raises(BadInput, match=r"a file system that has locks, got .*No locks available"):
            locked(run)
