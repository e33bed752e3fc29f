from __future__ import annotations

from pathlib import Path

import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.mit_indoor_67 import mit_indoor_67
from trainables.errors import BadInput, Problem

from .. import layouts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return layouts.mit_indoor_67(tmp_path)


def config(folder: Path) -> DataConfig:
    return DataConfig(dataset="mit_indoor_67", root=folder, check_counts=False)


def refused(folder: Path) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as caught:
        mit_indoor_67(config(folder))
    return caught.value.problems


def test_a_file_is_a_whole_line(folder: Path) -> None:
    source = mit_indoor_67(config(folder))
    assert source.train.names[0] == str(folder / "Images" / "airport_inside" / "hall 2 .jpg")
    assert all(Path(name).is_file() for name in source.train.names)


def test_lists_with_the_other_line_ends(folder: Path) -> None:
    before = mit_indoor_67(config(folder)).train.names
    file = folder / "TrainImages.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert mit_indoor_67(config(folder)).train.names == before


def test_a_test_class_without_training_images(folder: Path) -> None:
    file = folder / "TestImages.txt"
    file.write_text(f"{file.read_text()}\nbakery/1.jpg")
    problem = Problem("root", "only classes of TrainImages.txt in TestImages.txt", "'bakery'")
    assert refused(folder) == (problem,)


def test_a_line_without_a_class(folder: Path) -> None:
    file = folder / "TrainImages.txt"
    file.write_text("airport_inside/hall 2 .jpg\nhall 3 .jpg\n")
    problem = Problem("root", f"class/file in every line of '{file}'", "'hall 3 .jpg' in line 2")
    assert refused(folder) == (problem,)
