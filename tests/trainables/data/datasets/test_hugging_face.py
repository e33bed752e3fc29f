"""With a stand-in for the package `datasets`, of which no test may download anything."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.hugging_face import dataset_of_splits, hugging_face
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.registry import open_dataset
from trainables.data.decoding import decode_all
from trainables.errors import BadInput, Problem

from ..conftest import photo


@dataclass(frozen=True)
class Image:
    """`datasets.Image`."""

    decode: bool = True


@dataclass(frozen=True)
class ClassLabel:
    """`datasets.ClassLabel`."""

    names: Sequence[str]


@dataclass(frozen=True)
class Value:
    """`datasets.Value`."""

    dtype: str


@dataclass(frozen=True)
class Rows:
    """`datasets.Dataset`, with encoded images."""

    features: Mapping[str, Any]
    labels: Sequence[Any]
    first: int = 0
    paths: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Any) -> Any:
        label = next(name for name in self.features if name.startswith("label"))
        if isinstance(key, str):
            assert key == label, "only labels are read as a column"
            return self.labels
        assert isinstance(key, int), "numpy's integers are no index of a table"
        assert not self.features["image"].decode, "images are decoded here"
        if self.paths is not None:
            return {"image": {"bytes": None, "path": str(self.paths[key])}, label: self.labels[key]}
        encoded = io.BytesIO()
        photo(self.first + key).save(encoded, "PNG")
        return {"image": {"bytes": encoded.getvalue(), "path": None}, label: self.labels[key]}

    def cast_column(self, column: str, feature: Any) -> Rows:
        return replace(self, features={**self.features, column: feature})


NAMED = {"image": Image(), "label": ClassLabel(["cat", "ape", "bee"])}
TEXT = {"image": Image(), "label": Value("string")}
CONFIG = DataConfig(dataset="hugging_face", name="me/zoo", size_px=8, resize_px=8)


def refused(splits: Mapping[str, Rows], config: DataConfig = CONFIG) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as caught:
        dataset_of_splits(splits, config)
    return caught.value.problems


def listed(splits: Mapping[str, Rows], config: DataConfig = CONFIG) -> Dataset:
    return dataset_of_splits(splits, config)


def test_splits_labels_and_images() -> None:
    source = listed(
        {"train": Rows(NAMED, [2, 1, 2]), "validation": Rows(NAMED, [1], 10), "test": Rows(NAMED, [1, 2], 20)}
    )
    assert source.class_names == ("ape", "bee")  # in the order of the feature; no image is a cat
    assert source.train.labels.tolist() == [1, 0, 1]
    assert source.train.names == ["me/zoo: train 0", "me/zoo: train 1", "me/zoo: train 2"]
    assert source.test is not None
    assert source.test.labels.tolist() == [0, 1]
    assert source.validation is not None
    assert source.validation.labels.tolist() == [0]
    assert source.notes == ()
    pixels = decode_all(source.test, 8, "squash")
    np.testing.assert_array_equal(pixels[1], np.asarray(photo(21).resize((8, 8), resample=3)))
    taken = source.train.take(np.array([2]))
    np.testing.assert_array_equal(decode_all(taken, 8, "squash")[0], np.asarray(photo(2).resize((8, 8), resample=3)))


def test_labels_as_text_and_images_as_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        photo(i).save(path)
    source = listed({"train": Rows(TEXT, ["bee", "ape"], paths=paths)})
    assert source.class_names == ("ape", "bee")
    assert source.train.labels.tolist() == [1, 0]
    assert source.test is None
    assert decode_all(source.train, 8, "squash").shape == (2, 8, 8, 3)


def test_what_is_not_read_is_said() -> None:
    source = listed({"train": Rows(NAMED, [1, 2]), "extra": Rows(NAMED, [1]), "test": Rows(NAMED, [-1, -1])})
    assert source.test is None
    assert source.notes == ("the test split is not read, as it has no labels", "not read: the splits 'extra'")


def test_the_only_split_is_for_training() -> None:
    assert len(listed({"full": Rows(NAMED, [1, 2])}).train) == 2


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        (
            {"test": Rows(NAMED, [1]), "dev": Rows(NAMED, [1])},
            Problem("name", "a dataset with a split train", "the splits 'test', 'dev'"),
        ),
        (
            {"train": Rows({"text": Value("string"), "label": Value("string")}, ["a"])},
            Problem("name", "a dataset with one column of images", "none of 'text', 'label'"),
        ),
        (
            {"train": Rows({"image": Image(), "mask": Image(), "label": Value("string")}, ["a"])},
            Problem("name", "a dataset with one column of images", "'image', 'mask'"),
        ),
        (
            {"train": Rows({"image": Image(), "labels": NAMED["label"]}, [1])},
            Problem(
                "label_column",
                "a column of the dataset",
                "'label', not one of 'image', 'labels' (did you mean 'labels'?)",
            ),
        ),
        (
            {"train": Rows(NAMED, [1, 1])},
            Problem("name", "at least 2 classes of training images", "'ape'"),
        ),
        (
            {"train": Rows(NAMED, [1, 2, -1])},
            Problem("label_column", "a label for every row of the train split (label)", "none for 1 of 3"),
        ),
        (
            {"train": Rows(NAMED, [1, 2]), "test": Rows(NAMED, [0, 1])},
            Problem("label_column", "only labels of training images in the test split", "'cat'"),
        ),
    ],
)
def test_datasets_that_are_refused(splits: Mapping[str, Rows], problem: Problem) -> None:
    assert refused(splits) == (problem,)


def test_the_column_of_labels_can_be_named() -> None:
    splits = {"train": Rows({"image": Image(), "label_fine": NAMED["label"]}, [1, 2])}
    assert listed(splits, CONFIG.model_copy(update={"label_column": "label_fine"})).class_names == ("ape", "bee")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The calls of a stand-in for `datasets.load_dataset`, which knows me/zoo alone."""
    module, made = ModuleType("datasets"), []

    def load_dataset(*arguments: Any, **options: Any) -> Mapping[str, Rows]:
        made.append((arguments, options | {"offline": module.config.HF_HUB_OFFLINE}))
        if arguments[0] != "me/zoo":
            raise FileNotFoundError(f"Couldn't find {arguments[0]}")
        return {"train": Rows(NAMED, [1, 2])}

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    module.config = SimpleNamespace(HF_HUB_OFFLINE=False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return made


def test_it_is_loaded_without_its_code_and_without_a_download(calls: list[Any], tmp_path: Path) -> None:
    assert len(open_dataset(CONFIG).train) == 2
    config = CONFIG.model_copy(update={"download": True, "root": tmp_path, "config_name": "small"})
    assert open_dataset(config).problems == ()
    assert calls == [
        (("me/zoo", None), {"cache_dir": None, "offline": True}),
        (("me/zoo", "small"), {"cache_dir": str(tmp_path), "offline": False}),
    ]


@pytest.mark.parametrize(
    ("download", "source"),
    [(False, "in its cache (data.download: true fetches it)"), (True, "on the Hugging Face hub")],
)
def test_a_dataset_that_is_not_there(calls: list[Any], download: bool, source: str) -> None:
    with pytest.raises(BadInput) as caught:
        hugging_face(CONFIG.model_copy(update={"name": "me/zoos", "download": download}))
    got = "FileNotFoundError: Couldn't find me/zoos"
    assert caught.value.problems == (Problem("name", f"a dataset that can be loaded, {source}", got),)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"dataset: expected the installed package datasets .*pip install -e '.\[hub\]'"):
        hugging_face(CONFIG)


def test_without_a_name() -> None:
    with pytest.raises(BadInput, match="name: expected the name of a dataset of the Hugging Face hub, got nothing"):
        hugging_face(DataConfig(dataset="hugging_face"))
