"""The death of a process is reported by another one: real processes, which take a tenth of a second each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tuner.cli.exit_monitor import first_to_end, lines_of

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from pathlib import Path
from tuner.cli.exit_monitor import exit_monitored

record = Path(sys.argv[1])
report = record.parent / "logs" / "exit.txt"
with exit_monitored(1, "search", record, report, ["see: the report", "go on with: --resume"]):
    print("begun", flush=True)
    if sys.stdin.readline() == "raise\\n":
        raise SystemExit("said by itself")
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
    (tmp_path / "logs").mkdir()
    return file


def test_a_process_that_is_killed_is_reported_with_how_to_go_on(record: Path) -> None:
    with command(record) as process:
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    command_died = f"the process of the search ({process.pid}) ended and recorded no reason"
    why = f"{command_died}: killed by a signal, or out of memory"
    logs = record.parent / "logs"
    assert out.splitlines() == [f"error: {why}; the logs are in {logs}", "see: the report", "go on with: --resume"]
    assert (logs / "exit.txt").read_text() == f"{why}\n"


class TestWhoDiedFirst:
    @pytest.fixture
    def raylet(self) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(["sleep", "60"]) as process:
            yield process
            process.kill()

    @pytest.fixture
    def pipe(self) -> Iterator[tuple[int, int]]:
        reader, writer = os.pipe()
        yield reader, writer
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def test_a_raylet(self, raylet: subprocess.Popen[bytes], pipe: tuple[int, int]) -> None:
        raylet.kill()
        assert first_to_end(pipe[0], raylet.pid) == "raylet"

    @pytest.mark.parametrize("has_raylet", [True, False])
    def test_a_command(self, raylet: subprocess.Popen[bytes], pipe: tuple[int, int], has_raylet: bool) -> None:
        os.close(pipe[1])
        assert first_to_end(pipe[0], raylet.pid if has_raylet else None) == "command"

    def test_who_can_tell(self, raylet: subprocess.Popen[bytes], pipe: tuple[int, int]) -> None:
        """Not yet reaped, so that there still is a process of that number."""
        raylet.kill()
        os.waitid(os.P_PID, raylet.pid, os.WEXITED | os.WNOWAIT)
        os.close(pipe[1])
        assert first_to_end(pipe[0], raylet.pid) == "either"


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
    files = {"record": __file__, "report": "/logs/exit.txt"}
    message = {"noun": "comparison", "pid": 7, "raylet": 8, "advice": ["on"], **files}
    first, *rest = lines_of(message, "command")
    assert first.startswith("error: the process of the comparison (7) ended and recorded no reason")
    assert rest == ["on"]
    assert lines_of(message, "raylet")[0].startswith("error: Ray's raylet (process 8) or an agent of it died, and the")
    assert "(7), or Ray's raylet (process 8), ended" in lines_of(message, "either")[0]
