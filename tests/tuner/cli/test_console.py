"""Output of libraries and child processes goes to a file, that of the command to the screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.cli.console import output_redirected_to

SCRIPT = """
import os, sys
from pathlib import Path
from tuner.cli.console import output_redirected_to
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
