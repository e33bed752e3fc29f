"""Output of libraries and child processes goes to a file, that of the command to the screen."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast

import pytest
from rich.console import Console
from rich.table import Table

from tuner.cli.comparison_progress import ComparisonProgress
from tuner.cli.console import Screen, output_redirected_to, silence_unread, text_console

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os, sys
from pathlib import Path
from tuner.cli.console import output_redirected_to, text_console
print("before", flush=True)
try:
    with output_redirected_to(Path("logs/driver.log")) as screen:
        print("python"); print("python's errors", file=sys.stderr)
        os.write(1, b"a library\\n"); os.system("echo a child; echo its errors >&2")
        print("for the user", file=screen)
        raise SystemExit("broke off")
finally:
    print("after", flush=True)
    print("errors after", file=sys.stderr)
"""


def test_output_goes_to_a_file_and_the_streams_are_restored_whatever_happens(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout.splitlines() == ["before", "for the user", "after"]
    assert ended.stderr.splitlines() == ["errors after", "broke off"]
    log = (tmp_path / "logs" / "driver.log").read_text().splitlines()
    assert set(log) == {"python", "python's errors", "a library", "a child", "its errors"}


def test_output_is_appended_and_leaks_no_descriptor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with output_redirected_to(tmp_path / "log"):
            os.write(1, b"a line\n")
    assert (tmp_path / "log").read_text() == "a line\na line\n"
    assert len(os.listdir("/proc/self/fd")) == open_before


class TestScreen:
    def test_writes_what_it_is_given(self) -> None:
        reader, writer = os.pipe()
        with Screen(writer) as screen:
            assert screen.write("γ = 0.1\n") == 8
            Console(file=cast("IO[str]", screen)).print("[bold]words[/]")
        with os.fdopen(reader, encoding="utf-8") as shown:
            assert shown.read() == "γ = 0.1\nwords\n"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(writer)

    def test_falls_silent_when_its_reader_has_gone(self) -> None:
        reader, writer = os.pipe()
        with Screen(writer) as screen:
            os.close(reader)
            console = Console(file=cast("IO[str]", screen))
            for _ in range(3):
                console.print("to nobody")
            assert screen.is_silent

    def test_falls_silent_when_its_terminal_is_closed(self) -> None:
        ours, theirs = pty.openpty()
        with Screen(theirs) as screen:
            assert screen.isatty()
            os.close(ours)
            screen.write("to nobody")
            assert screen.is_silent

    def test_falls_silent_on_a_full_disk(self) -> None:
        with Screen(os.open("/dev/full", os.O_WRONLY)) as screen:
            screen.write("no room")
            assert screen.is_silent

    def test_waits_for_a_slow_reader_of_a_pipe_that_does_not_block(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        text = "x" * 1_000_000
        with ThreadPoolExecutor() as pool, os.fdopen(reader) as slow:
            read = pool.submit(slow.read)
            with Screen(writer) as screen:
                screen.write(text)
            assert read.result() == text
        assert not screen.is_silent


def test_a_stream_with_a_reader_is_left_alone() -> None:
    reader, writer = os.pipe()
    assert not silence_unread(writer)
    os.close(reader)
    assert silence_unread(writer)
    os.write(writer, b"discarded")
    os.close(writer)


WITHOUT_STREAMS = """
import os, sys
from tuner.cli.arguments import guarded

def command():
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
    print("words")
    print("errors", file=sys.stderr)
    os.write(file, b"the record")
    return 3

sys.exit(guarded(command))
"""


def test_a_command_without_streams_writes_into_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "record"
    shell = f"{sys.executable} -c '{WITHOUT_STREAMS}' {file} <&- >&- 2>&-"
    ended = subprocess.run(["bash", "-c", shell], cwd=ROOT, timeout=120, check=False)
    assert ended.returncode == 3
    assert file.read_text() == "the record"


NAMES = ("a[copy].png", "[red]apple[/red]", "[/]", ":dog: and [link=x]", "a\\[b]")


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console, table = text_console(), Table(*NAMES)
    for name in NAMES:
        console.print(name)
        table.add_row(name)
    console.print(table)
    shown = capsys.readouterr().out
    assert shown.splitlines()[: len(NAMES)] == list(NAMES)
    assert all(shown.count(name) >= 2 for name in NAMES)


def test_a_display_and_its_lines_show_names_as_they_are() -> None:
    screen = io.StringIO()
    display = ComparisonProgress(Console(file=screen, width=200), "[bold]", 1, 1)
    for name in NAMES:
        display.say(name)
    assert all(name in screen.getvalue() for name in NAMES)


def test_a_command_whose_reader_leaves_ends_quietly(tmp_path: Path) -> None:
    """Whether it prints by itself or with rich, and whether it notices at once or as it ends."""
    for body in ("[print('x' * 60) for _ in range(9999)]", "[text_console().print('x' * 60) for _ in range(9999)]"):
        code = "from tuner.cli.arguments import guarded; from tuner.cli.console import text_console\n"
        code += f"raise SystemExit(guarded(lambda: len({body}) - 9999))"
        pipe = f'set -o pipefail; "{sys.executable}" -c "{code}" | head -n 1'
        ended = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False, timeout=120)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "x" * 60 + "\n", "")
