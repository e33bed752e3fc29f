"""Layout of a folder of photographs: which folders are splits, which are classes, and what neither can be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.datasets.folders import (
    FolderFiles,
    entries_of,
    find_files,
    is_folder,
    is_record,
    shown,
    subfolders,
)
from trainables.data.datasets.formats import is_image
from trainables.data.datasets.root_folder import quoted
from trainables.data.datasets.split_names import SplitName, split_named
from trainables.errors import BadInput, Problem

NAMED_AT_MOST = 10
"""Largest number of names in one message."""


@dataclass(frozen=True)
class SplitFolders:
    """The folders that hold the classes of each split, and the names of other folders beside them."""

    train: Path
    test: Path | None = None
    validation: Path | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassFiles:
    """The files of each class of a split, by its name, and the names of folders with records of searches."""

    folder: Path
    of_class: Mapping[str, FolderFiles]
    records: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.of_class)

    @property
    def num_images(self) -> int:
        """Number of images of all classes together."""
        return sum(len(files.images) for files in self.of_class.values())


def find_splits(root: Path) -> SplitFolders:
    """Finds the split folders in `root` by their usual names; without any, `root` holds the training classes itself.

    A folder with such a name that holds images itself, beside other folders with images, is a class: a photographed
    train. Raises BadInput if a split has two folders, or if there are others than training images alone.
    """
    children = subfolders(root)
    named = {child: split for child in children if (split := split_named(child.name)) is not None}
    if not named or _is_a_class(named, children):
        return SplitFolders(root)
    folders = {split: [child for child, its in named.items() if its == split] for split in named.values()}
    if twice := [Problem("root", *_two_folders(split, found)) for split, found in folders.items() if len(found) > 1]:
        raise BadInput(twice)
    beside = tuple(child.name for child in children if child not in named)
    if "train" not in folders:
        raise BadInput(_without_train(root, [child.name for child in named], beside))
    test, validation = (next(iter(folders.get(split, ())), None) for split in _OTHERS)
    return SplitFolders(folders["train"][0], test, validation, beside)


def find_classes(folder: Path, root: Path) -> ClassFiles:
    """Finds the classes in `folder`, which is `root` or in it, and their files. Records of searches are no classes."""
    above = {str(parent) for path in (folder, root) for parent in _with_parents(path)}
    children = {child: real for child in subfolders(folder) if (real := os.path.realpath(child)) not in above}
    entered = above | set(children.values())
    found = {child: find_files(child, entered) for child in children}
    records = [child for child, files in found.items() if is_record(child, files)]
    return ClassFiles(
        folder,
        {child.name: files for child, files in found.items() if child not in records},
        tuple(record.name for record in records),
    )


def layout_problems(classes: ClassFiles) -> list[Problem]:
    """Problem of classes that are splits, or hold splits: at least two hold the same sub-folders, at any depth of each,
    and no images beside these."""
    below = {name: _sub_folders(classes.folder / name, files) for name, files in classes.of_class.items()}
    counts = Counter(inner for folders in below.values() for inner in set().union(*folders))
    alike: dict[str, set[str]] = {}
    for name, folders in below.items():
        for names in folders:
            shared = {inner for inner in names if counts[inner] > 1}
            if len(shared) > 1 and 2 * len(shared) >= len(names):
                alike.setdefault(name, shared)
    if len(alike) < 2:
        return []
    outer, common = list(alike), sorted(set().union(*alike.values()))
    same = f"with the same sub-folders {quoted(common, NAMED_AT_MOST)}"
    got = f"{quoted(outer, NAMED_AT_MOST)} of '{shown(classes.folder)}', {same}"
    return [Problem("root", _right_layout(outer, common), got)]


def _right_layout(outer: Sequence[str], inner: Sequence[str]) -> str:
    """The layout that was meant by classes `outer` that all hold sub-folders `inner`."""
    names = outer if any(split_named(name) for name in inner) else inner
    rows = [f"{split}/{name}/" for split in ("train", "test") for name in names[:2]]
    return (
        f"a folder for each class, below train/ and test/ ({', '.join(rows)} …) or without these "
        f"({names[0]}/, {names[1]}/ …); for sub-folders of one class, as of one day, say data.group_by: 1"
    )


def _sub_folders(folder: Path, files: FolderFiles) -> list[set[str]]:
    """The sub-folders with images of a class folder, and of each folder below it, that has no images of its own."""
    with_images = {os.path.relpath(parent, folder) for parent in {os.path.dirname(image) for image in files.images}}
    inner: dict[str, set[str]] = {}
    for parts in (Path(name).parts for name in with_images):
        for depth, name in enumerate(parts):
            inner.setdefault(str(Path(*parts[:depth])), set()).add(name)
    return [names for place, names in inner.items() if place not in with_images]


_OTHERS: tuple[SplitName, SplitName] = ("test", "validation")


def _is_a_class(named: Mapping[Path, SplitName], children: Sequence[Path]) -> bool:
    if len(named) > 1:
        return False
    others = [child for child in children if child not in named]
    return all(map(_holds_images_alone, named)) and any(map(_holds_images, others))


def _holds_images_alone(folder: Path) -> bool:
    return _holds_images(folder) and not subfolders(folder)


def _holds_images(folder: Path) -> bool:
    return any(is_image(entry.name) for entry in entries_of(folder) if not is_folder(entry))


def _two_folders(split: SplitName, found: Sequence[Path]) -> tuple[str, str]:
    return f"one folder of {split} images", quoted([folder.name for folder in found])


def _without_train(root: Path, named: Sequence[str], beside: Sequence[str]) -> Problem:
    splits = " and ".join(f"{name}/" for name in named)
    others = f"{splits} beside {quoted(beside, NAMED_AT_MOST)}" if beside else f"{splits} only"
    return Problem("root", f"train/ beside {splits}", f"'{shown(root)}', which holds {others}")


def _with_parents(folder: Path) -> Iterator[Path]:
    real = Path(os.path.realpath(folder))
    yield real
    yield from real.parents
