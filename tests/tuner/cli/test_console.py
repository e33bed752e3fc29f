"""Output of libraries and child processes goes to a file, that of the command to the screen."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tuner.cli.comparison_progress import ComparisonProgress
from tuner.cli.console import output_redirected_to, text_console

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
