"""Folders that are no dataset, each with what was expected."""

from __future__ import annotations

from pathlib import Path

from tests.trainables.data.datasets.test_imagefolder import listed, refused
from trainables.data.datasets.imagefolder import IMAGES
from trainables.errors import Problem

from ..conftest import MakeFolder


def test_the_root_is_missing_from_the_configuration() -> None:
    assert refused(None) == (Problem("root", "a folder for dataset imagefolder", "nothing"),)


def test_a_misspelt_root_gets_its_nearest_siblings(make_folder: MakeFolder) -> None:
    wrong = make_folder({"fig": 1}).with_name("friut")
    got = f"'{wrong}', which does not exist; beside it are 'fruit'"
    assert refused(wrong) == (Problem("root", "an existing folder", got),)


def test_a_root_in_nowhere_gets_the_nearest_folder_above(tmp_path: Path) -> None:
    wrong = tmp_path / "a" / "b"
    got = f"'{wrong}', which does not exist; the nearest folder that does is '{tmp_path}'"
    assert refused(wrong) == (Problem("root", "an existing folder", got),)


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    got = f"'{tmp_path / 'file'}', which is a file"
    assert refused(tmp_path / "file") == (Problem("root", "an existing folder", got),)


def test_no_class_folders(tmp_path: Path) -> None:
    assert refused(tmp_path) == (Problem("root", "at least 2 class folders", f"none in '{tmp_path}'"),)


def test_one_class_folder(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 1})
    got = f"'fig' in '{root / 'train'}'"
    assert refused(root) == (Problem("root", "at least 2 class folders", got),)


def test_a_test_folder_alone(make_folder: MakeFolder) -> None:
    root = make_folder({"test/fig": 1})
    got = f"'{root}', which holds test/ only"
    assert refused(root) == (Problem("root", "train/ beside test/", got),)


def test_empty_and_unknown_classes_are_named_together(make_folder: MakeFolder) -> None:
    root = make_folder(
        {"train/fig": 2, "train/lime": 0, "train/plum": 0, "test/fig": 1, "test/kiwi": 1, "test/lime": 0}
    )
    train, test = root / "train", root / "test"
    assert listed(root).problems == (
        Problem("root", IMAGES, f"none in 'lime', 'plum' of '{train}'"),
        Problem("root", IMAGES, f"none in 'lime' of '{test}'"),
        Problem("root", f"only classes of '{train}' in test/", "'kiwi'"),
    )


def test_class_folders_without_any_image(make_folder: MakeFolder) -> None:
    root = make_folder({"fig": 0, "lime": 0})
    assert refused(root) == (Problem("root", IMAGES, f"none in 'fig', 'lime' of '{root}'"),)


def test_a_test_folder_without_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 1, "train/lime": 1, "test": 0})
    problem = Problem("root", "at least one class folder", f"none in '{root / 'test'}'")
    assert listed(root).problems == (problem,)


def test_images_in_no_class(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 1, "train/lime": 1, "test": 3})
    assert listed(root).problems[0].got == f"none in '{root / 'test'}', which holds 3 images itself"


def test_a_class_of_the_test_split_in_another_unicode_form(make_folder: MakeFolder) -> None:
    root = make_folder({"train/caf\u00e9": 1, "train/lime": 1, "test/cafe\u0301": 1})
    got = "'cafe\u0301' (the same name in another Unicode form: convmv -f utf8 -t utf8 --nfc makes them one)"
    assert listed(root).problems[0].got == got
