"""Runs are found by what a person calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.tiny import search_started
from trainables.errors import BadInput
from tuner.record.directory import RunDirectory
from tuner.record.events import Header
from tuner.record.find import find_run, runs_below
from tuner.record.lines import encode


def begun(directory: Path) -> RunDirectory:
    directory.mkdir(parents=True)
    (directory / "journal.jsonl").touch()
    return RunDirectory(directory)


class TestFindRun:
    def test_by_name_by_name_and_run_and_by_folder(self, tmp_path: Path) -> None:
        first, second = begun(tmp_path / "tiny" / "2026-a"), begun(tmp_path / "tiny" / "2026-b")
        (tmp_path / "tiny" / "2026-c").mkdir()  # was refused before it began
        assert find_run("tiny", tmp_path) == second
        assert find_run("tiny/2026-a", tmp_path) == find_run(str(first), Path("/none")) == first

    @pytest.mark.parametrize("text", ["tini", "tiny/2026-z", ""])
    def test_what_there_is_not_is_refused_with_what_there_is(self, text: str, tmp_path: Path) -> None:
        begun(tmp_path / "tiny" / "2026-a")
        with pytest.raises(
            BadInput, match=r"RUN: expected a name, a name/run below .*, or an experiment directory"
        ) as bad:
            find_run(text, tmp_path, "RUN")
        assert ("did you mean 'tiny'?" in str(bad.value)) == bool(text)


def test_runs_are_in_the_order_of_their_first_events(tmp_path: Path) -> None:
    """Whatever the clocks of the machines said that named them: one is twelve hours ahead."""
    times_s = {"20261124-180018-ffff": 1.5, "20261124-180018-0000": 1.9, "20261125-060000-8888": 1.0}
    for name, time_s in times_s.items():
        begun(tmp_path / name).journal.write_bytes(encode(Header()) + encode(search_started(time_s=time_s)))
    assert [run.run[9:] for run in runs_below(tmp_path)] == ["060000-8888", "180018-ffff", "180018-0000"]


def test_a_run_that_cannot_be_read_is_found_by_its_name(tmp_path: Path) -> None:
    """As the newest one, it is refused where it is opened; an older one is not taken in its place."""
    older = begun(tmp_path / "tiny" / "20261124-180018-ffff")
    older.journal.write_bytes(encode(Header()) + encode(search_started(time_s=1795543218.0)))  # 18:00:18 of that day
    newer = begun(tmp_path / "tiny" / "20261124-180019-0000")
    newer.journal.write_bytes(b"\0\0\0\n")
    assert find_run("tiny", tmp_path) == newer
