"""Files of trainings in progress: there while they run, ignored when they are old or broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.training.progress import StepProgress
from tuner.record.live_steps import STALE_S, StepFile, read_steps, shown_in

PROGRESS = StepProgress(step=3, num_steps=8, steps_per_epoch=2, loss=None, examples_per_s=10.0, left_s=4.0)


def test_are_read_back_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "steps"
    assert read_steps(folder) == {}
    for name in ("trial-0001 fold 2", "linear probe fold 1"):
        StepFile(folder, name).write(PROGRESS)
    assert read_steps(folder) == {"linear probe fold 1": PROGRESS, "trial-0001 fold 2": PROGRESS}
    StepFile(folder, "trial-0001 fold 2").remove()
    assert list(read_steps(folder)) == ["linear probe fold 1"]


def test_of_many_the_first_are_read(tmp_path: Path) -> None:
    for number in range(5):
        StepFile(tmp_path, f"trial-{number:04d} fold 1").write(PROGRESS)
    assert list(read_steps(tmp_path, at_most=2)) == ["trial-0000 fold 1", "trial-0001 fold 1"]


def test_old_and_broken_ones_are_ignored(tmp_path: Path) -> None:
    StepFile(tmp_path, "old").write(PROGRESS)
    stat = (tmp_path / "old.json").stat()
    os.utime(tmp_path / "old.json", (stat.st_atime, stat.st_mtime - STALE_S))
    (tmp_path / "torn.json").write_text("{")
    assert read_steps(tmp_path) == {}


def test_a_disk_that_refuses_ends_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = StepFile(tmp_path / "file", "trial-0000 fold 1")
    blocked.write(PROGRESS)
    blocked.remove()


def test_what_ends_is_not_shown_any_more(tmp_path: Path) -> None:
    file = StepFile(tmp_path, "retraining seed 0")

    def fail() -> None:
        file.write(PROGRESS)
        assert list(read_steps(tmp_path)) == ["retraining seed 0"]
        raise RuntimeError

    with pytest.raises(RuntimeError), shown_in(file):
        fail()
    assert read_steps(tmp_path) == {}
    with shown_in(None):
        pass
