"""The table of runs and its JSON; `record/test_summary.py` has what stands in a row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.summaries import BROKEN, FINISHED, INTERRUPTED, write_search
from tests.tuner.tiny import space_of
from tuner.list import main


def test_the_table_and_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_search(tmp_path / "tiny" / "a", FINISHED)
    write_search(tmp_path / "tiny" / "b")
    (tmp_path / "broken" / "c").mkdir(parents=True)
    (tmp_path / "broken" / "c" / "journal.jsonl").write_text('{"event": "trial_finished"}\nno json\n')
    (tmp_path / "a file").touch()
    assert main(["--directory", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:] if not line.startswith(" ")] == [
        ["broken/c", "unreadable"],
        ["tiny/a", "finished"],
        ["tiny/b", "died"],
    ]
    assert main(["--directory", str(tmp_path), "--json", "-"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(run["run"], run["state"], run["best"]) for run in listed] == [
        ("c", "unreadable", None),
        ("a", "finished", 0.75),
        ("b", "died", 0.75),
    ]
    assert main(["--directory", str(tmp_path), "--json", str(tmp_path / "list.json")]) == 0
    assert json.loads((tmp_path / "list.json").read_text()) == listed


def test_json_that_cannot_be_written_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_search(tmp_path / "tiny" / "a", FINISHED)
    assert main(["--directory", str(tmp_path), "--json", str(tmp_path / "no" / "list.json")]) == 2
    expected = f"error: --json: expected a file that can be written, got {tmp_path / 'no' / 'list.json'}: no such file"
    assert capsys.readouterr().err.startswith(expected)


def test_a_search_that_time_alone_limits_has_no_number_to_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(tmp_path / "tiny" / "a", FINISHED, space_of(search__trials=None, search__minutes=30))
    main(["--directory", str(tmp_path)])
    assert " 4 (2 complete" in capsys.readouterr().out


def test_a_pipe_has_one_line_a_run_and_a_terminal_lines_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(tmp_path / "a-rather-long-name-of-a-search" / "20261129-101500-ab12", BROKEN)
    write_search(tmp_path / "tiny" / "20261129-101501-ab13", INTERRUPTED)
    monkeypatch.setenv("COLUMNS", "80")
    main(["--directory", str(tmp_path)])
    heading, broken, interrupted = capsys.readouterr().out.splitlines()
    assert heading.split() == ["search", "state", "trials", "best", "age", "last", "event"]
    assert broken.startswith("a-rather-long-name-of-a-search/20261129-101500-ab12  failed       4/6 (2 complete, 1 ")
    assert broken.endswith("OSError: no space left on device")
    assert interrupted.startswith("tiny/20261129-101501-ab13 ")
    assert "0.7500" in interrupted

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--directory", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if not line.startswith(" ")] == [
        "a-rather-long-name-of-a-search/20261129-101500-ab12  failed",
        "tiny/20261129-101501-ab13  interrupted",
    ]
    below = " ".join(" ".join(lines[1:3]).split())
    assert below.startswith("4/6 (2 complete, 1 pruned, 1 open), best 0.7500, started ")

    monkeypatch.setenv("COLUMNS", "200")
    main(["--directory", str(tmp_path)])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_state_has_a_colour_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(tmp_path / "failed" / "a", BROKEN)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["--directory", str(tmp_path)])
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    main(["--directory", str(tmp_path)])
    assert "failed/a\x1b[31m  failed\x1b[0m" in capsys.readouterr().out


def test_of_a_search_that_was_stopped_no_trial_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_search(tmp_path / "tiny" / "a", INTERRUPTED)
    main(["--directory", str(tmp_path)])
    assert "4/6 (2 complete, 1 pruned, 1 open)" in capsys.readouterr().out


def test_a_reader_may_leave_early(tmp_path: Path) -> None:
    for number in range(3):
        write_search(tmp_path / "tiny" / str(number), FINISHED)
    pipe = f"{sys.executable} -m tuner.list --directory {tmp_path} | head -n 1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", pipe], capture_output=True, text=True, check=True)
    assert (len(ended.stdout.splitlines()), ended.stderr) == (1, "")


def test_nothing_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--directory", str(tmp_path / "none")]) == 0
    assert "there is no experiment in" in capsys.readouterr().out


def test_it_imports_nothing_heavy(tmp_path: Path) -> None:
    write_search(tmp_path / "tiny" / "a", FINISHED)
    code = f"""
import sys
from tuner.list import main

assert main(["--directory", {str(tmp_path)!r}]) == 0
heavy = {{"torch", "mlflow", "ray", "optuna", "numpy", "pandas", "plotly"}} & sys.modules.keys()
assert not heavy, heavy
"""
    listed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "tiny/a" in listed.stdout
