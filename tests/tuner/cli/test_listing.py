from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.cli.listing import print_listing


def test_summaries_stand_in_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing({"l2": "Plain.", "mixup": "Mixed."}, as_json=False)
    assert capsys.readouterr().out == "l2     Plain.\nmixup  Mixed.\n"


def test_names_without_summaries_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(["a", "b"], as_json=False)
    assert capsys.readouterr().out == "a\nb\n"


@pytest.mark.parametrize("names", [{"l2": "‖w‖²"}, ["a", "b"], {}])
def test_json_is_what_was_given(names: dict[str, str] | list[str], capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(names, as_json=True)
    assert json.loads(capsys.readouterr().out) == names


def test_a_reader_may_leave_early() -> None:
    code = "from tuner.cli.listing import print_listing; print_listing(['name'] * 100_000, False)"
    pipe = ["bash", "-o", "pipefail", "-c", f'{sys.executable} -c "{code}" | head -n 1']
    ended = subprocess.run(pipe, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("name\n", "")
