"""What is written beside the predictions: a picture of a training batch, which no report waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.reports.evaluated import images
from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import baseline_events, space_of
from trainables.data.loading import source_key
from tuner.execution import evaluating
from tuner.execution.evaluating import keep_batch_picture
from tuner.record.directory import RunDirectory
from tuner.record.events import Event
from tuner.record.history import SearchHistory

SPACE = space_of()


def keep(directory: RunDirectory) -> None:
    by_key: dict[Any, Any] = {source_key(next(SPACE.boundary_configs()).data): images(30, side_px=40)}
    keep_batch_picture(SPACE, by_key, directory, SearchHistory.read(directory.journal))


def test_it_is_of_the_winners_training(tmp_path: Path) -> None:
    directory = write_search(tmp_path, space=SPACE)
    keep(directory)
    assert directory.batch_picture.read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("trials", "baselines"),
    [([], []), ([("complete", (0.5, 0.5), "")], baseline_events("linear_probe", [0.9, 0.9]))],
    ids=["no winner", "a probe"],
)
def test_without_a_training_there_is_none(tmp_path: Path, trials: Any, baselines: list[Event]) -> None:
    directory = write_search(tmp_path, trials, SPACE, baselines=baselines)
    keep(directory)
    assert not directory.batch_picture.exists()


def test_a_failure_is_logged_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluating, "write_batch_picture", broken)
    keep(write_search(tmp_path, space=SPACE))
    assert "there is no picture of a training batch" in caplog.text
