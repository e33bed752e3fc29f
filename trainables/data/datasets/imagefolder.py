"""Images in class folders, the layout of torchvision's ImageFolder and of the SMILE authors' code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.datasets.root_folder import existing_root, quoted, subfolders
from trainables.errors import BadInput, Problem

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")
TRAIN, TEST = "train", "test"

ClassFiles = Mapping[str, Sequence[Path]]


def imagefolder(config: DataConfig) -> Dataset:
    """Images of your own: a folder with a folder of images for each class, with or without train/ and test/.

    `root` holds train/ and test/ with a folder for each class, or train/ only, or the class folders themselves. Only
    these two names are splits: other folders beside train/ (val/, say) are not read. Classes are numbered by their
    sorted names in the training split, before any sampling. Images may be in subfolders of a class folder; hidden files
    and folders are ignored. Raises BadInput if there are no classes to list.
    """
    train_folder, test_folder = _split_folders(existing_root(config))
    train = _files_by_class(train_folder)
    test = _files_by_class(test_folder) if test_folder else None
    problems = _class_problems(train_folder, train, at_least=2)
    if test_folder is not None and test is not None:
        problems += _class_problems(test_folder, test, at_least=1) + _unknown_problems(train_folder, train, test)
    if len(train) < 2 or not any(train.values()):
        raise BadInput(problems)
    classes = tuple(train)
    test_listing = None if test is None else _listing(test, classes)
    return Dataset(classes, _listing(train, classes), test_listing, tuple(problems))


def _split_folders(root: Path) -> tuple[Path, Path | None]:
    """The folders that hold the training classes and, if there is one, the test classes."""
    train, test = root / TRAIN, root / TEST
    if train.is_dir():
        return train, test if test.is_dir() else None
    if test.is_dir():
        raise BadInput(Problem("root", "train/ beside test/", f"'{root}', which holds test/ only"))
    return root, None


def _files_by_class(folder: Path) -> ClassFiles:
    return {child.name: _image_files(child) for child in subfolders(folder)}


def _image_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if _is_image(name)]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def _class_problems(folder: Path, classes: ClassFiles, at_least: int) -> list[Problem]:
    """Problems of one split by itself."""
    problems = []
    if len(classes) < at_least:
        got = f"{quoted(list(classes)) or 'none'} in '{folder}'"
        problems.append(Problem("root", f"at least {at_least} class folders", got))
    if empty := [name for name, files in classes.items() if not files]:
        expected = f"images ({', '.join(EXTENSIONS)}) in every class folder"
        problems.append(Problem("root", expected, f"none in {quoted(empty)} of '{folder}'"))
    return problems


def _unknown_problems(train_folder: Path, train: ClassFiles, test: ClassFiles) -> list[Problem]:
    """Problem of test classes without training images; the reverse is allowed."""
    unknown = [name for name in test if name not in train]
    if not unknown:
        return []
    return [Problem("root", f"only classes of '{train_folder}' in {TEST}/", quoted(unknown))]


def _listing(files: ClassFiles, classes: Sequence[str]) -> Listing:
    paths = [path for name in classes for path in files.get(name, ())]
    labels = np.repeat(np.arange(len(classes)), [len(files.get(name, ())) for name in classes])
    names = [str(path) for path in paths]
    return Listing(labels.astype(np.int64), names, lambda i: Image.open(paths[i]), in_files=True)
