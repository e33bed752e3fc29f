"""What a run leaves on the disk, and what its journal says of how it ended."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.tuner.tiny import search_journal, search_started, space_of, write_photos
from trainables.errors import BadInput
from tuner.execution.run_context import RunContext, end_recorded, run_directory, search_ended, wait_for_mlflow
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.create import new_run
from tuner.record.directory import RunDirectory
from tuner.record.events import Header, TrialEnded
from tuner.record.lines import DamagedJournal, encode
from tuner.resources.share import Share


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

    def test_nor_does_one_go_on_whose_events_do_not_follow_each_other(self, tmp_path: Path) -> None:
        space = space_of(tracking__directory=str(tmp_path))
        lost = TrialEnded(trial=3, state="complete")
        new_run(space).journal.write_bytes(encode(Header()) + encode(lost))
        with pytest.raises(DamagedJournal, match="expected an event of a trial that has started"):
            run_directory(space, True, print).__enter__()


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

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_stays_what_it_was_if_the_report_is_cut_off(self, tmp_path: Path, error: type[BaseException]) -> None:
        journal = search_journal(tmp_path)
        journal.append(search_started())
        journal.append(search_ended("finished", "all trials"))
        with pytest.raises(error), end_recorded(journal, search_ended):
            raise error
        assert journal.history.ended is not None
        assert journal.history.ended.outcome == "finished"

    def test_is_shown_although_ctrl_c_ends_the_wait_for_mlflow(self, tmp_path: Path) -> None:
        class Impatient:
            def flush(self, timeout_s: float) -> bool:
                raise KeyboardInterrupt

        said: list[str] = []
        journal = search_journal(tmp_path / "run")
        context: Any = RunContext(journal.directory, "sqlite:///x.db", Share(1, 0, 1), journal, cast(Any, Impatient()))
        wait_for_mlflow(context, cast(Any, SimpleNamespace(say=said.append)))
        assert said == [f"MLflow is behind; sync it with: python -m tuner.replay {tmp_path / 'run'}"]


class TestData:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        write_photos(tmp_path / "photos", 40, train=4, test=2)
        return tmp_path / "photos"

    def begun(self, tmp_path: Path, photos: Path) -> RunDirectory:
        with run_directory(self.of(tmp_path, photos), False, print) as directory:
            directory.journal.touch()
        return directory

    def of(self, tmp_path: Path, photos: Path, **changes: Any) -> SearchExperiment:
        data = {"dataset": "imagefolder", "root": str(photos), "size_px": 32}
        return space_of(tracking__directory=str(tmp_path / "runs"), data=data, **changes)

    def test_a_run_does_not_go_on_with_other_photographs(self, tmp_path: Path, photos: Path) -> None:
        directory = self.begun(tmp_path, photos)
        recorded = directory.space.read_bytes()
        (photos / "train" / "apple" / "3.png").rename(photos / "train" / "pear" / "apple3.png")
        with pytest.raises(BadInput) as bad, run_directory(self.of(tmp_path, photos), True, print):
            pass
        assert "data: expected the data with which the search was started" in str(bad.value)
        assert directory.space.read_bytes() == recorded

    def test_it_goes_on_with_the_same_ones_at_another_place(self, tmp_path: Path, photos: Path) -> None:
        directory = self.begun(tmp_path, photos)
        moved = Path(shutil.move(photos, tmp_path / "moved"))
        with run_directory(self.of(tmp_path, moved), True, print) as resumed:
            assert resumed == directory
        assert str(moved) in directory.space.read_text()

    def test_one_that_does_not_know_its_data_stays_at_its_place(self, tmp_path: Path, photos: Path) -> None:
        self.begun(tmp_path, photos).data.unlink()
        moved = Path(shutil.move(photos, tmp_path / "moved"))
        with (
            pytest.raises(BadInput, match=r"data\.root: expected"),
            run_directory(self.of(tmp_path, moved), True, print),
        ):
            pass

    def test_another_setting_of_the_data_is_refused_as_before(self, tmp_path: Path, photos: Path) -> None:
        self.begun(tmp_path, photos)
        other = self.of(tmp_path, photos, data__sampling_seed=1)
        with pytest.raises(BadInput, match=r"data\.sampling_seed: expected 0"), run_directory(other, True, print):
            pass
