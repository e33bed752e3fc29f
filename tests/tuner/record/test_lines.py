"""A journal with a damaged line: what is said of it, and the way out."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import pytest

from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import write_yaml
from trainables.errors import BadInput
from tuner import list as listing
from tuner import replay, report, search
from tuner.record.directory import RunDirectory
from tuner.record.history import SearchHistory
from tuner.record.journal import open_search_journal
from tuner.record.lines import DamagedJournal, read_events

LINE = 5
DAMAGE = {
    "zeros": b"\0" * 4096,
    "noise": bytes(range(128, 256)),
    "no JSON": b"<<<<<<< HEAD",
    "half a line": b'{"event":"fold_fini',
    "deep": b"[" * 100_000,
    "nothing": b"",
}


@pytest.fixture(params=DAMAGE)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    directory = write_search(tmp_path / "experiments" / "tiny" / "20261129-101500-ab12")
    lines = directory.journal.read_bytes().splitlines(keepends=True)
    lines[LINE - 1] = DAMAGE[request.param] + b"\n"
    directory.journal.write_bytes(b"".join(lines))
    return directory


def test_it_is_named_with_its_line_and_the_way_out(damaged: RunDirectory) -> None:
    with pytest.raises(DamagedJournal) as refused:
        list(read_events(damaged.journal))
    said = str(refused.value)
    assert said.startswith(f"{damaged.journal}:{LINE}: expected an event, got ")
    assert "everything before this line can be read" in said
    assert len(said.splitlines()) == 1
    assert len(said) < 1000
    assert str(pickle.loads(pickle.dumps(refused.value))) == said


def test_the_way_out_keeps_what_is_good_and_the_damaged_file(damaged: RunDirectory) -> None:
    damaged.mlflow_cursor.write_text("{}")
    content = damaged.journal.read_bytes()
    with pytest.raises(DamagedJournal) as refused:
        list(read_events(damaged.journal))
    assert refused.value.way_out in str(refused.value)
    subprocess.run(refused.value.way_out, shell=True, check=True)
    assert damaged.journal.read_bytes() == b"".join(content.splitlines(keepends=True)[: LINE - 1])
    assert damaged.journal.with_name("journal.jsonl.damaged").read_bytes() == content
    assert not damaged.mlflow_cursor.exists()
    open_search_journal(damaged).close()


@pytest.mark.parametrize("command", ["report", "replay", "warm start", "resume"])
def test_every_command_says_so_in_one_line(
    damaged: RunDirectory, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, uri = str(tmp_path / "experiments"), f"sqlite:///{tmp_path}/mlflow.db"
    if command == "resume":
        with pytest.raises(DamagedJournal):
            open_search_journal(damaged)
        return
    if command == "warm start":
        space = str(write_yaml(tmp_path, tracking={"uri": uri, "directory": root}))
        code = search.main(["--space", space, "--dry-run", "--warm-start", str(damaged.path)])
    elif command == "replay":
        code = replay.main(["tiny", "--directory", root, "--tracking-uri", uri])
    else:
        code = report.main(["tiny", "--directory", root])
    said = capsys.readouterr().err
    assert code == 2
    assert f"journal.jsonl:{LINE}: expected an event, got " in said
    assert said.count("\n") == 1


def test_the_list_goes_on(damaged: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_search(tmp_path / "experiments" / "tiny" / "20261129-101600-ab12")
    assert listing.main(["--directory", str(tmp_path / "experiments"), "--json", "-"]) == 0
    shown = capsys.readouterr().out
    assert '"unreadable"' in shown
    assert '"finished"' in shown
    assert "head -n" not in shown


def test_an_event_of_a_trial_whose_start_was_lost_is_damage(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    lines = directory.journal.read_bytes().splitlines(keepends=True)
    del lines[2]  # the start of trial 0
    directory.journal.write_bytes(b"".join(lines))
    with pytest.raises(DamagedJournal) as refused:
        SearchHistory.read(directory.journal)
    expected = "expected an event of a trial that has started, got 'fold_finished' of trial 0, which has not"
    assert str(refused.value).startswith(f"{directory.journal}:3: {expected}")


def test_a_journal_that_cannot_be_opened_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(BadInput, match="expected a journal that can be read, got is a directory"):
        list(read_events(tmp_path / "journal.jsonl"))


def test_a_journal_of_zeros_is_no_new_one(tmp_path: Path) -> None:
    """As a disk leaves it that lost power; a first line without its end is one of a crash."""
    directory = RunDirectory(tmp_path)
    directory.journal.write_bytes(b"\0" * 600)
    with pytest.raises(BadInput, match=r"journal\.jsonl:1: expected a journal of format 1, got 600 NUL bytes"):
        open_search_journal(directory)
    assert directory.journal.stat().st_size == 600
    directory.journal.write_bytes(b'{"event":"journ')
    assert list(read_events(directory.journal)) == []
