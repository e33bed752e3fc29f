"""Runs are found by what a person calls them, and each belongs to one process at a time."""

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
from tuner.record.find import find_run, runs_below
from tuner.record.lock import LockHolder, holder_of, locked

HERE = LockHolder(os.getpid(), socket.gethostname())

SECOND_PROCESS = """
import sys
from pathlib import Path
from trainables.errors import BadInput
from tuner.record.find import locked
try:
    locked(Path(sys.argv[1]))
except BadInput as bad:
    print(bad)
"""


def begun(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "journal.jsonl").touch()
    return directory


class TestLock:
    def test_a_second_process_is_told_who_has_it_and_what_to_do(self, tmp_path: Path) -> None:
        with locked(tmp_path):
            second = subprocess.run(
                [sys.executable, "-c", SECOND_PROCESS, str(tmp_path)], capture_output=True, text=True, check=True
            )
        assert f"got process {os.getpid()} on {socket.gethostname()} is at work in it" in second.stdout
        assert f"python -m tuner.stop {tmp_path} ends that" in second.stdout
        locked(tmp_path).close()

    def test_does_not_outlive_its_process(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text("4194304 elsewhere\n")  # as a process that was killed leaves it
        assert holder_of(tmp_path) is None
        locked(tmp_path).close()

    def test_asking_who_has_it_takes_it_from_nobody(self, tmp_path: Path) -> None:
        assert holder_of(tmp_path) is None
        with locked(tmp_path):
            assert holder_of(tmp_path) == HERE
            with pytest.raises(BadInput):
                locked(tmp_path)
        assert holder_of(tmp_path) is None

    def test_a_holder_of_another_machine_is_not_here(self, tmp_path: Path) -> None:
        with locked(tmp_path):
            (tmp_path / "lock").write_text("17 elsewhere\n")
            holder = holder_of(tmp_path)
            assert holder == LockHolder(17, "elsewhere")
            assert not holder.is_here
            with pytest.raises(BadInput, match="process 17 on elsewhere"):
                locked(tmp_path)

    def test_a_file_system_without_locks_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def flock(*_: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("tuner.record.find.fcntl.flock", flock)
        with pytest.raises(BadInput, match=r"a file system that has locks, got .*No locks available"):
            locked(tmp_path)


class TestFindRun:
    def test_by_name_by_name_and_run_and_by_folder(self, tmp_path: Path) -> None:
        first, second = begun(tmp_path / "tiny" / "2026-a"), begun(tmp_path / "tiny" / "2026-b")
        (tmp_path / "tiny" / "2026-c").mkdir()  # was refused before it began
        assert find_run("tiny", tmp_path) == second
        assert find_run("tiny/2026-a", tmp_path) == find_run(str(first), Path("/none")) == first

    @pytest.mark.parametrize("text", ["tini", "tiny/2026-z", ""])
    def test_what_there_is_not_is_refused_with_what_there_is(self, text: str, tmp_path: Path) -> None:
        begun(tmp_path / "tiny" / "2026-a")
        with pytest.raises(BadInput, match=r"--replay: a name, a name/run below .*, or an experiment directory") as bad:
            find_run(text, tmp_path, "RUN")
        assert ("did you mean 'tiny'?" in str(bad.value)) == bool(text)


def test_of_runs_that_were_named_in_one_second_the_later_comes_last(tmp_path: Path) -> None:
    for name, time_s in {"20261124-180018-ffff": 1.5, "20261124-180018-0000": 1.9, "20261124-180017-8888": 3.0}.items():
        (begun(tmp_path / name) / "journal.jsonl").write_text(f'{{"event": "search_started", "time_s": {time_s}}}\n')
    assert [run.name[9:] for run in runs_below(tmp_path)] == ["180017-8888", "180018-ffff", "180018-0000"]
