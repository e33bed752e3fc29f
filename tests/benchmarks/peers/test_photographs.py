from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.peers.photographs import Clock, PhotoTask, hand_in, splits_of
from tests.benchmarks.photographs import written_pictures
from trainables.errors import BadInput


@pytest.fixture
def task(tmp_path: Path) -> PhotoTask:
    root = written_pictures(tmp_path / "photos")
    return PhotoTask(root, tmp_path / "out.json", tmp_path / "kept", minutes=2.0, seed=0, started_s=1000.0)


def test_the_splits_are_listed_class_by_class(task: PhotoTask) -> None:
    train, test = splits_of(task.root)
    assert train.class_names == test.class_names == ("blue", "red")
    assert (train.labels, test.labels) == ((0,) * 6 + (1,) * 6, (0, 0, 0, 1, 1, 1))
    assert test.files[3] == task.root / "test" / "red" / "0.png"


def test_both_splits_are_needed(task: PhotoTask) -> None:
    (task.root / "train" / "green").mkdir()
    with pytest.raises(BadInput, match=r"images .* in every class folder"):
        splits_of(task.root)
    shutil.rmtree(task.root / "test")
    (task.root / "train" / "green").rmdir()
    with pytest.raises(BadInput, match="train/ and test/"):
        splits_of(task.root)


def test_what_is_known_is_measured_once_and_not_counted(task: PhotoTask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1010.0
    monkeypatch.setattr(time, "time", lambda: now)
    clock = Clock(task)

    def measure() -> list[float]:
        nonlocal now
        now += 50
        return [3.0, 4.5]

    assert clock.known("epochs", measure) == [3.0, 4.5]
    assert (clock.seconds, clock.left_s) == (10.0, 110.0)
    again = Clock(task)
    assert again.known("epochs", measure) == [3.0, 4.5]
    assert again.seconds == 60.0  # as if it had been started at the same time


def test_what_is_handed_in(task: PhotoTask) -> None:
    _, test = splits_of(task.root)
    hand_in(task, 9.5, "4 epochs", test.files[2:4], ["red", "blue"])
    assert json.loads(task.out.read_bytes()) == {
        "seconds": 9.5,
        "said": "4 epochs",
        "predicted": {"test/blue/2.png": "red", "test/red/0.png": "blue"},
    }
