"""What lies in the experiments folder, read off the journals and the locks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner.comparisons import fail_cell, finish_cell
from tests.tuner.tiny import add_trial, space_of
from tuner.list import main
from tuner.messages.wording import age
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.record.summary import summary_of


def search_in(directory: Path, *ending: Callable[[Journal], object]) -> Path:
    """A search of six trials of which three ended and one runs, and whatever came then."""
    with closing(Journal(directory)) as journal:
        journal.append("search_started", name="tiny", run=directory.name, **space_of().described())
        add_trial(journal, 0, [0.5, 0.75])
        add_trial(journal, 1, [0.5], "pruned", "far behind")
        add_trial(journal, 2, [0.75, 0.75])
        add_trial(journal, 3, [1.0], "running")
        for event in ending:
            event(journal)
    return directory


def interrupted(journal: Journal) -> None:
    journal.append("search_finished", why="interrupted")


def finished(journal: Journal) -> None:
    journal.append("search_finished", why="every trial has ended", best_trial=2, seconds=5.0)


def broken(journal: Journal) -> None:
    journal.append("search_finished", why="OSError: no space left on device")


@pytest.mark.parametrize(
    ("ending", "state", "why"),
    [
        ([], "died", "its process was killed"),
        ([interrupted], "interrupted", ""),
        ([finished], "finished", "every trial has ended"),
        ([broken], "failed", "OSError: no space left on device"),
    ],
)
def test_how_a_search_stands(ending: list[Callable[[Journal], object]], state: str, why: str, tmp_path: Path) -> None:
    summary = summary_of(search_in(tmp_path / "tiny" / "a", *ending))
    assert (summary.name, summary.run, summary.kind) == ("tiny", "a", "search")
    assert (summary.state, summary.why) == (state, why)
    assert summary.asked == 6
    assert summary.counts == {"complete": 2, "pruned": 1, "running": 1}
    assert summary.best == 0.75
    assert summary.last_event_s >= summary.started_s


def test_one_that_runs_says_where(tmp_path: Path) -> None:
    directory = search_in(tmp_path / "tiny" / "a", interrupted)  # by an earlier run, which this one goes on from
    with locked(directory):
        summary = summary_of(directory)
    assert summary.state == "running"
    assert summary.why.startswith("process ")


def test_a_comparison_counts_its_trainings(tmp_path: Path) -> None:
    directory = tmp_path / "tiny" / "a"
    compare = {"seeds": 2, "rows": [{}, {}], "columns": [{}]}
    with closing(Journal(directory)) as journal:
        journal.append("comparison_started", name="tiny", run="a", space={"compare": compare}, params={})
        finish_cell(journal, "L²", "15 %", 0, 0.5)
        fail_cell(journal, "L²", "15 %", 1)
    summary = summary_of(directory)
    assert (summary.kind, summary.asked, summary.counts) == ("comparison", 4, {"complete": 1, "failed": 1})


def test_the_table_and_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search_in(tmp_path / "tiny" / "a", finished)
    search_in(tmp_path / "tiny" / "b")
    (tmp_path / "broken" / "c").mkdir(parents=True)
    (tmp_path / "broken" / "c" / "journal.jsonl").write_text('{"event": "trial_finished"}\nno json\n')
    (tmp_path / "a file").touch()
    assert main(["--directory", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:] if "/" in line.split()[0]] == [
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


def test_nothing_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--directory", str(tmp_path / "none")]) == 0
    assert "no experiment lies in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (90000, "25 h"), (2e5, "2 d")]
)
def test_age(seconds: float, text: str) -> None:
    assert age(seconds) == text
