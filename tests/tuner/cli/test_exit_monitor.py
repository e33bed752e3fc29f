"""The death of a process is reported by another one: real processes, which take a tenth of a second each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tuner.cli.exit_monitor import lines_of

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os, signal, subprocess, sys
from pathlib import Path
from tuner.cli.exit_monitor import exit_monitored

child = subprocess.Popen([sys.argv[2], "60"]) if len(sys.argv) > 2 else None
record = Path(sys.argv[1])
with exit_monitored(1, "search", record, record.parent / "logs", ["see: the report", "go on with: --resume"]):
    print("begun", flush=True)
    command = sys.stdin.readline().strip()
    if command == "raise":
        raise SystemExit("said by itself")
    if command == "the raylet":
        child.kill()
        child.wait()
        sys.stdin.readline()
        os._exit(1)  # as Ray does it
"""


@contextmanager
def command(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


@pytest.fixture
def record(tmp_path: Path) -> Path:
    file = tmp_path / "journal.jsonl"
    file.touch()
    return file


def test_a_process_that_is_killed_is_reported_with_how_to_go_on(record: Path) -> None:
    with command(record) as process:
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    why = f"the process of the search ({process.pid}) died without a word: killed, or out of memory"
    logs = record.parent / "logs"
    assert out.splitlines() == [f"error: {why}; the logs are in {logs}", "see: the report", "go on with: --resume"]


def test_a_raylet_that_dies_first_is_the_reason(record: Path, tmp_path: Path) -> None:
    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    with command(record, raylet) as process:
        out, _ = process.communicate("the raylet\nnow\n", timeout=60)
    assert process.returncode == 1
    assert out.startswith("error: Ray's raylet (process ")
    assert out.splitlines()[-1] == "go on with: --resume"


def test_nothing_is_advised_where_there_is_no_record(tmp_path: Path) -> None:
    with command(tmp_path / "none") as process:
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("word", ["return", "raise"])
def test_an_end_that_the_command_reports_is_not_reported_again(word: str, record: Path) -> None:
    with command(record) as process:
        out, err = process.communicate(f"{word}\n", timeout=60)
    assert out == ""
    assert err == ("said by itself\n" if word == "raise" else "")


def test_the_signals_of_a_terminal_do_not_end_the_monitor(record: Path) -> None:
    """They are sent to the process group of the command."""
    with command(record) as process:
        os.killpg(process.pid, signal.SIGHUP)
        out, _ = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "go on with: --resume"


def test_a_report_has_one_line_a_thing() -> None:
    message = {"noun": "comparison", "pid": 7, "raylet": None, "record": __file__, "logs": "/logs", "advice": ["on"]}
    first, *rest = lines_of(message, raylet_died_first=False)
    assert first.startswith("error: the process of the comparison (7) died without a word")
    assert rest == ["on"]
