"""What a run leaves on the disk, and what its journal says of how it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.tiny import search_journal, space_of
from tuner.execution.run_context import end_recorded, run_directory, search_ended
from tuner.record.create import new_run
from tuner.record.events import Header
from tuner.record.lines import DamagedJournal, encode


class TestDirectory:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_a_run_that_never_began_leaves_nothing(self, tmp_path: Path, error: type[BaseException]) -> None:
        space = space_of(tracking__directory=str(tmp_path))
        with pytest.raises(error), run_directory(space, False, print):
            raise error
        assert list((tmp_path / "tiny").iterdir()) == []

    def test_one_that_has_begun_is_kept(self, tmp_path: Path) -> None:
        space = space_of(tracking__directory=str(tmp_path))
        directory = new_run(space)
        directory.journal.touch()
        with pytest.raises(KeyboardInterrupt), run_directory(space, True, print):
            raise KeyboardInterrupt
        assert directory.path.exists()

    def test_one_with_a_damaged_journal_is_refused_at_once_and_kept(self, tmp_path: Path) -> None:
        space = space_of(tracking__directory=str(tmp_path))
        directory = new_run(space)
        directory.journal.write_bytes(encode(Header()) + b"\0" * 512 + b"\n")
        with pytest.raises(DamagedJournal, match=r"journal\.jsonl:2: expected an event, got 512 NUL bytes"):
            run_directory(space, True, print).__enter__()
        assert directory.journal.stat().st_size > 512


class TestEnd:
    @pytest.mark.parametrize(
        ("error", "outcome", "why"),
        [
            (KeyboardInterrupt(), "interrupted", "interrupted"),
            (OSError("s3://robot:hunter2@bucket is gone"), "failed", "OSError: s3://bucket is gone"),
        ],
    )
    def test_is_recorded_as_a_value_and_raised_on(
        self, tmp_path: Path, error: BaseException, outcome: str, why: str
    ) -> None:
        journal = search_journal(tmp_path)
        with pytest.raises(type(error)), end_recorded(journal, search_ended):
            raise error
        ended = journal.history.ended
        assert ended is not None
        assert (ended.outcome, ended.why) == (outcome, why)

    def test_of_a_block_that_ends_by_itself_is_its_own(self, tmp_path: Path) -> None:
        journal = search_journal(tmp_path)
        with end_recorded(journal, search_ended):
            pass
        assert journal.history.ended is None
