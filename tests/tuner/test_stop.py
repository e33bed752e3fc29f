"""The process that holds the lock is asked to end, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.tuner.tiny import add_trial, search_journal, search_started
from tuner.record.directory import RunDirectory
from tuner.record.lock import locked
from tuner.stop import main

HOLDING = """
import signal, sys, time
from pathlib import Path
from tuner.record.directory import RunDirectory
from tuner.record.lock import locked
lock = locked(RunDirectory(Path(sys.argv[1])))
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("holds", flush=True)
time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    with closing(search_journal(tmp_path / "tiny" / "run")) as journal:
        journal.append(search_started())
        add_trial(journal, 0, [0.5, 0.75])
    return journal.directory


@contextmanager
def process_holding(directory: RunDirectory, manner: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDING, str(directory), manner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def test_it_ends_and_what_is_kept_is_said(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with process_holding(directory) as process:
        assert main(["tiny", "--directory", str(directory.path.parent.parent)]) == 0
        process.wait(10)
    out = capsys.readouterr().out
    assert f"sent SIGTERM to process {process.pid} on " in out
    assert f"kept in {directory}:\n  1 complete; every finished fold\n" in out
    assert f"go on with: python -m tuner.search --resume {directory}" in out


def test_one_that_does_not_end_in_time_is_said(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with process_holding(directory, "deaf") as process:
        assert main([str(directory), "--timeout-s", "0.1"]) == 1
    assert f"kill -9 {process.pid}" in capsys.readouterr().out


def test_one_that_does_not_run_is_refused(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    directory.lock.write_text(f"{os.getpid()} {os.uname().nodename}\n")  # a number that somebody else has now
    assert main([str(directory)]) == 2
    assert (
        f"error: {directory}: expected a running search or comparison, got one that is not running (died)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("written", ["1 {here}", "17 elsewhere", ""])
def test_a_process_that_does_not_have_the_lock_is_left_alone(
    written: str, directory: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.stop.os.kill", lambda *_: pytest.fail("a process was asked to end"))
    with locked(directory):
        directory.lock.write_text(written.format(here=os.uname().nodename))
        assert main([str(directory)]) == 2
    assert "expected a search of this machine" in capsys.readouterr().err


def test_a_name_that_nothing_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["none", "--directory", str(tmp_path)]) == 2
    assert "error: NAME: expected a name, a name/run below" in capsys.readouterr().err
