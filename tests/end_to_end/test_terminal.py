"""What a person sees on a terminal: the shipped experiment, made tiny."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.forked import clean_environment

pytestmark = pytest.mark.slow
SHIPPED = Path(__file__).parents[2] / "search_spaces" / "smile.yaml"


def on_a_terminal(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit code, and everything that appeared."""
    ours, theirs = pty.openpty()
    environment = clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # so Linux says that the other side is closed
            pass
        finally:
            os.close(ours)
    return process.returncode, shown.decode()


def test_the_smoke_run_is_live(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tuner.search", "--space", str(SHIPPED), "--smoke"]
    code, shown = on_a_terminal(command, tmp_path)
    assert code == 0, shown
    assert "Traceback" not in shown
    for words in ("smile-digits-smoke", "searching", "2/2 trials", "trial-0001", "fold 1/2", "retraining", "test "):
        assert words in shown
    assert "\x1b[2K" in shown  # lines are drawn again
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
