"""The table of runs and its JSON; `record/test_summary.py` has what stands in a row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.summaries import FINISHED, write_search
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


def test_a_search_that_time_alone_limits_has_no_number_to_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(tmp_path / "tiny" / "a", FINISHED, space_of(search__trials=None, search__minutes=30))
    main(["--directory", str(tmp_path)])
    assert " 4 (2 complete" in capsys.readouterr().out


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
