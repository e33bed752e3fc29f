"""What all published datasets owe, on small folders in their layouts."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.cub_200_2011 import CUB
from trainables.data.datasets.fgvc_aircraft import AIRCRAFT
from trainables.data.datasets.food_101 import FOOD
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.mit_indoor_67 import INDOOR
from trainables.data.datasets.published import Published
from trainables.data.datasets.registry import DATASETS, DOWNLOADABLE, open_dataset
from trainables.data.datasets.stanford_cars import CARS
from trainables.data.loading import check_data
from trainables.errors import BadInput, Problem

from ..layouts import LAYOUTS, NUM_TEST, NUM_TRAIN

PUBLISHED: dict[str, Published] = {
    "cub_200_2011": CUB,
    "stanford_cars": CARS,
    "fgvc_aircraft": AIRCRAFT,
    "mit_indoor_67": INDOOR,
    "food_101": FOOD,
}
CLASSES = {
    "cub_200_2011": ("Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross"),
    "stanford_cars": ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C-V Cargo Van Minivan 2012"),
    "fgvc_aircraft": ("Boeing 737-700", "F-16A-B", "F-A-18"),
    "mit_indoor_67": ("airport_inside", "artstudio", "auditorium"),
    "food_101": ("apple_pie", "baby_back_ribs", "baklava"),
}

each_dataset = pytest.mark.parametrize("dataset", LAYOUTS)


def listed(dataset: str, root: Path, **fields: Any) -> Dataset:
    return open_dataset(DataConfig(dataset=dataset, root=root, **{"check_counts": False, **fields}))


def refused(dataset: str, root: Path | None, **fields: Any) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as caught:
        check_data(DataConfig(dataset=dataset, root=root, **fields), num_folds=3)
    return caught.value.problems


def test_every_published_dataset_of_images_is_held_to_this() -> None:
    others = {"digits", "imagefolder", "manifest", "hugging_face", "sst5"}
    assert PUBLISHED.keys() == LAYOUTS.keys() == CLASSES.keys() == DATASETS.keys() - others


@each_dataset
def test_classes_and_splits_are_the_lists(dataset: str, tmp_path: Path) -> None:
    LAYOUTS[dataset](tmp_path)
    source = listed(dataset, tmp_path)
    assert source.class_names == CLASSES[dataset]
    assert source.test is not None
    assert source.problems == ()
    assert Counter(source.train.labels.tolist()) == dict.fromkeys(range(3), NUM_TRAIN)
    assert Counter(source.test.labels.tolist()) == dict.fromkeys(range(3), NUM_TEST)
    names = [*source.train.names, *source.test.names]
    assert len(set(names)) == 3 * (NUM_TRAIN + NUM_TEST)
    assert not any("unlisted" in name or "9999" in name or "bakery" in name for name in names)
    for listing in (source.train, source.test):
        with listing.read(0) as image:
            assert image.size == (8, 8)


@each_dataset
def test_the_official_folder_may_be_the_root(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = LAYOUTS[dataset](tmp_path)
    above = listed(dataset, tmp_path)
    assert listed(dataset, folder).train.names == above.train.names
    monkeypatch.chdir(folder)
    assert listed(dataset, Path(".")).train.names == above.train.names


@each_dataset
def test_a_truncated_copy_is_refused_with_both_counts(dataset: str, tmp_path: Path) -> None:
    LAYOUTS[dataset](tmp_path)
    published = PUBLISHED[dataset]
    (problem,) = refused(dataset, tmp_path)
    expected = (
        f"{published.num_train} training and {published.num_test} test images of "
        f"{published.num_classes} classes, as published (data.check_counts: false takes what there is)"
    )
    assert problem == Problem("root", expected, "12 training and 6 test images of 3 classes")
    assert check_data(DataConfig(dataset=dataset, root=tmp_path, check_counts=False), num_folds=3).num_train == 12


@each_dataset
def test_every_missing_file_is_named_with_where_to_get_it(dataset: str, tmp_path: Path) -> None:
    folder = LAYOUTS[dataset](tmp_path)
    published = PUBLISHED[dataset]
    for name in published.files:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    missing = ", ".join(f"'{name}'" for name in published.files)
    expected = f"the files as published (from {published.where})"
    assert refused(dataset, tmp_path) == (Problem("root", expected, f"'{folder}' without {missing}"),)


@each_dataset
def test_an_image_that_is_on_a_list_only(dataset: str, tmp_path: Path) -> None:
    LAYOUTS[dataset](tmp_path)
    source = listed(dataset, tmp_path)
    assert source.test is not None
    absent = [source.train.names[5], source.test.names[0]]
    for name in absent:
        Path(name).unlink()
    counts, images = refused(dataset, tmp_path)
    assert counts.expected.endswith("as published (data.check_counts: false takes what there is)")
    expected = f"every image that its lists name (from {PUBLISHED[dataset].where})"
    assert images == Problem("root", expected, f"no '{absent[0]}', '{absent[1]}'")


@each_dataset
def test_without_a_root(dataset: str) -> None:
    assert refused(dataset, None) == (Problem("root", f"a folder for dataset {dataset}", "nothing"),)


@pytest.mark.parametrize("dataset", sorted(LAYOUTS.keys() - {"mit_indoor_67"}))
def test_a_folder_that_holds_something_else(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    published = PUBLISHED[dataset]
    expected = f"the folder '{published.folder}' or the one that holds it (from {published.where})"
    assert refused(dataset, tmp_path) == (Problem("root", expected, f"'{tmp_path}', which holds 'birds'"),)


@pytest.mark.parametrize("dataset", ["stanford_cars", "fgvc_aircraft", "food_101"])
def test_a_damaged_list(dataset: str, tmp_path: Path) -> None:
    folder = LAYOUTS[dataset](tmp_path)
    damaged = next(name for name in PUBLISHED[dataset].files if name.endswith((".mat", "test.txt", ".json")))
    (folder / damaged).write_text("nothing of use", encoding="utf-8")
    (problem,) = refused(dataset, tmp_path)
    assert problem.expected == f"its lists as published (from {PUBLISHED[dataset].where})"
    assert problem.got.startswith(f"'{folder}': ")


@pytest.mark.parametrize("dataset", sorted(DATASETS.keys() - {*DOWNLOADABLE, "hugging_face"}))
def test_a_download_that_cannot_be(dataset: str, tmp_path: Path) -> None:
    problem = refused(dataset, tmp_path / "none", download=True)[0]
    expected = f"false for dataset {dataset}: only fgvc_aircraft, food_101 and hugging_face can be downloaded"
    assert problem == Problem("download", expected, "true")


@pytest.mark.parametrize("dataset", DOWNLOADABLE)
class TestDownloading:
    @pytest.fixture
    def asked(self, dataset: str, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """Stands in for the network: the folders into which a dataset was asked for, and put."""
        folders: list[Path] = []

        def fetch(
            url: str, folder: str | None = None, download_root: str | None = None, md5: str | None = None
        ) -> None:
            folders.append(Path(folder or download_root or ""))
            LAYOUTS[dataset](folders[-1])

        module = {"fgvc_aircraft": "fgvc_aircraft", "food_101": "food101"}[dataset]
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fetch)
        return folders

    @pytest.mark.parametrize("inner", [False, True])
    def test_where_it_is_asked_for(self, dataset: str, inner: bool, asked: list[Path], tmp_path: Path) -> None:
        root = tmp_path / "data"
        given = root / PUBLISHED[dataset].folder if inner else root
        assert len(listed(dataset, given, download=True).train) == 12
        assert len(listed(dataset, given, download=True).train) == 12
        assert asked == [root]

    def test_nowhere_else(self, dataset: str, asked: list[Path], tmp_path: Path) -> None:
        refused(dataset, tmp_path)
        assert asked == []

    def test_that_fails(self, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise OSError("no route to host")

        module = {"fgvc_aircraft": "fgvc_aircraft", "food_101": "food101"}[dataset]
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fail)
        (problem,) = refused(dataset, tmp_path, download=True)
        assert (problem.where, problem.got) == ("download", "OSError: no route to host")
        assert PUBLISHED[dataset].where in problem.expected
