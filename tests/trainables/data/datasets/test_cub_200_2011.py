from __future__ import annotations

from pathlib import Path

import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.cub_200_2011 import cub_200_2011
from trainables.errors import BadInput, Problem

from .. import layouts

CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return layouts.cub_200_2011(tmp_path)


def config(folder: Path) -> DataConfig:
    return DataConfig(dataset="cub_200_2011", root=folder, check_counts=False)


def refused(folder: Path) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as caught:
        cub_200_2011(config(folder))
    return caught.value.problems


def test_lists_are_joined_on_the_number(folder: Path) -> None:
    source = cub_200_2011(config(folder))
    assert source.test is not None
    for listing, numbers in ((source.train, range(2, 6)), (source.test, range(2))):
        files = [Path(name).relative_to(folder / "images") for name in listing.names]
        assert [file.parent.name for file in files] == [CLASSES[label] for label in listing.labels]
        assert {file.stem for file in files} == {str(k) for k in numbers}


def test_images_come_in_the_order_of_their_numbers(folder: Path) -> None:
    before = cub_200_2011(config(folder)).train.names
    for name in ("images", "image_class_labels", "train_test_split", "classes"):
        file = folder / f"{name}.txt"
        file.write_text("".join(sorted(file.read_text().splitlines(keepends=True))))
    assert cub_200_2011(config(folder)).train.names == before


def test_lists_that_do_not_join(folder: Path) -> None:
    (folder / "image_class_labels.txt").write_text("3 1\n10 9\n")
    split = folder / "train_test_split.txt"
    split.write_text(split.read_text().replace("3 0\n", "3 maybe\n", 1))
    labels, classes, halves = refused(folder)
    assert labels.expected == "a line in image_class_labels.txt for every image of images.txt"
    assert labels.got.startswith("none for image '17', '6', ")
    assert labels.got.endswith(", … (16 in all)")
    assert classes == Problem(
        "root", "a line in classes.txt for every class of image_class_labels.txt", "none for class '9'"
    )
    assert halves.got == "'maybe'"


@pytest.mark.parametrize("line", ["four 001.Black/4.jpg", "4", "3 twice.jpg"])
def test_a_line_that_is_none(folder: Path, line: str) -> None:
    file = folder / "images.txt"
    file.write_text(f"{file.read_text()}{line}\n")
    expected = f"a number of its own and a value in every line of '{file}'"
    assert refused(folder) == (Problem("root", expected, f"'{line}' in line 19"),)
