"""A run knows its data: it goes on with the same ones, wherever they are, and with no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tuner.comparisons import comparison_of
from tests.tuner.tiny import space_of
from trainables.errors import BadInput, Problem
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.data_record import check_same_data, fingerprint_of, inventories_of, keep_inventories, read_inventories
from tuner.record.directory import RunDirectory


def picture(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), value, dtype=np.uint8)).save(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(12):
        split, kind = ("train" if number < 8 else "test"), ("ape" if number % 2 else "bee")
        picture(root / split / kind / f"{number}.png", 20 * number)
    return root


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def of(root: Path, **changes: Any) -> SearchExperiment:
    return space_of(data={"dataset": "imagefolder", "root": str(root), "size_px": 32}, **changes)


def refused(space: SearchExperiment, directory: RunDirectory) -> Problem:
    with pytest.raises(BadInput) as bad:
        check_same_data(space, directory)
    (problem,) = bad.value.problems
    assert (problem.where, problem.file) == ("data", "tiny.yaml")
    assert problem.expected == "the data with which the search was started (leave out --resume to start anew)"
    return problem


def test_what_is_kept_reads_back_as_it_was(photos: Path, directory: RunDirectory) -> None:
    (photos / "train" / "ape" / "1.png").rename(photos / "train" / "ape" / 'a, "b"\n\xff.png')
    keep_inventories(of(photos), directory)
    kept = read_inventories(directory)
    assert kept is not None
    assert kept == [list(each) for each in inventories_of(of(photos))]
    assert fingerprint_of(kept) == fingerprint_of(inventories_of(of(photos)))
    assert sorted(entry.split for entry in kept[0]) == ["test"] * 4 + ["train"] * 8


def test_the_first_record_stays(photos: Path, directory: RunDirectory) -> None:
    keep_inventories(of(photos), directory)
    first = directory.data.read_bytes()
    (photos / "train" / "ape" / "1.png").unlink()
    keep_inventories(of(photos), directory)
    assert directory.data.read_bytes() == first


def test_the_same_data_are_accepted_wherever_they_are(photos: Path, directory: RunDirectory, tmp_path: Path) -> None:
    keep_inventories(of(photos), directory)
    check_same_data(of(photos), directory)
    elsewhere = Path(shutil.move(photos, tmp_path / "elsewhere"))
    check_same_data(of(elsewhere), directory)


def test_another_view_of_them_is_the_same_data(photos: Path, directory: RunDirectory) -> None:
    keep_inventories(of(photos), directory)
    searched = {"dataset": "imagefolder", "root": str(photos), "size_px": {"choice": [32, 48]}}
    assert len(inventories_of(space_of(data=searched))) == 1


def test_every_kind_of_change_is_refused_with_its_number(photos: Path, directory: RunDirectory) -> None:
    keep_inventories(of(photos), directory)
    for value in range(3):
        picture(photos / "train" / "ape" / f"new{value}.png", 3 + value)
    (photos / "train" / "bee" / "0.png").rename(photos / "train" / "ape" / "0.png")
    picture(photos / "test" / "ape" / "9.png", 1)
    assert refused(of(photos), directory).got == (
        "3 added ('train/ape/new0.png', 'train/ape/new1.png', 'train/ape/new2.png'); "
        "1 moved or renamed ('train/bee/0.png' to 'train/ape/0.png'); "
        "1 with other contents ('test/ape/9.png')"
    )


def test_a_run_without_a_record_is_not_checked(photos: Path, directory: RunDirectory) -> None:
    check_same_data(of(photos), directory)


@pytest.mark.parametrize("content", [b"", b"no table", b"a,b\n", b"sample,split,name,class,hash\n0,train\n"])
def test_a_damaged_record_is_no_missing_one(photos: Path, directory: RunDirectory, content: bytes) -> None:
    directory.path.mkdir()
    directory.data.write_bytes(content)
    with pytest.raises(BadInput, match=r"data\.csv: expected the record of the run's data, .*, got a damaged one"):
        check_same_data(of(photos), directory)


def test_each_sample_of_a_comparison_is_recorded(directory: RunDirectory) -> None:
    comparison = comparison_of()
    keep_inventories(comparison, directory)
    kept = read_inventories(directory)
    assert kept is not None
    assert len(kept) == len({str(data) for data in comparison.samples()})
    check_same_data(comparison, directory)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"tracking\.directory: expected a folder that can be written"):
        keep_inventories(space_of(), RunDirectory(tmp_path / "file" / "run"))
