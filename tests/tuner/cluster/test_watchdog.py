from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.cluster.watchdog import time_limit

SLEEPER = """
import ctypes, sys
from pathlib import Path
from tuner.cluster.watchdog import time_limit
def in_c():
    ctypes.PyDLL(None).sleep(600)  # which holds the interpreter's lock
with time_limit(0.2, Path(sys.argv[1])):
    in_c()
"""


def test_ends_a_process_that_hangs_in_c_and_says_where(tmp_path: Path) -> None:
    stacks = tmp_path / "logs" / "hung.txt"
    ended = subprocess.run([sys.executable, "-c", SLEEPER, str(stacks)], timeout=120, check=False)
    assert ended.returncode == 1
    assert "Timeout" in stacks.read_text()
    assert "in in_c" in stacks.read_text()


def test_leaves_nothing_behind_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[bool] = []
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: cancelled.append(True))
    with time_limit(600, tmp_path / "hung.txt"):
        assert (tmp_path / "hung.txt").exists()
    assert not (tmp_path / "hung.txt").exists()
    with pytest.raises(KeyError), time_limit(600, tmp_path / "hung.txt"):
        raise KeyError
    assert len(cancelled) == 2
    monkeypatch.undo()
    faulthandler.cancel_dump_traceback_later()
