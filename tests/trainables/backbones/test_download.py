from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from trainables.backbones import fetch_weights, registry
from trainables.backbones.config import BackboneConfig
from trainables.backbones.download import one_at_a_time


def is_locked(folder: Path) -> bool:
    with (folder / ".downloading").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_download_holds_those_of_other_processes(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "weights.pth"
    with one_at_a_time(file):
        assert is_locked(file.parent)
    assert not is_locked(file.parent)


def test_what_is_there_is_read_without_waiting(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    with one_at_a_time(file):
        assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    entered = []
    with one_at_a_time(tmp_path / "file" / "weights.pth"):
        entered.append(True)
    assert entered


@pytest.mark.parametrize(
    ("config", "fetches"),
    [
        ({"name": "torchvision/resnet18"}, True),
        ({"name": "torchvision/resnet18", "pretrained": False}, False),
        ({"name": "torchvision/resnet18", "checkpoint": "weights.pth"}, False),
    ],
)
def test_only_published_weights_are_fetched(
    config: dict[str, object], fetches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(registry, "_pretrained_parts", lambda name, *_: asked.append(name))
    fetch_weights(BackboneConfig.model_validate(config))
    assert asked == (["torchvision/resnet18"] if fetches else [])
