"""Images in class folders, the layout of torchvision's ImageFolder and of the SMILE authors' code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trainables.data.config import DataConfig
from trainables.data.datasets.class_names import ONE_FORM, one_form
from trainables.data.datasets.folders import entries_of, is_folder, is_utf8, shown, subfolders, system_folders
from trainables.data.datasets.formats import is_image, left_out_in_words
from trainables.data.datasets.layout import (
    NAMED_AT_MOST,
    ClassFiles,
    SplitFolders,
    find_classes,
    find_splits,
    layout_problems,
)
from trainables.data.datasets.listing import Dataset, Listing, listing_of_files
from trainables.data.datasets.root_folder import existing_root, quoted
from trainables.errors import BadInput, Problem

IMAGES = "images (.jpg, .png or another ending that Pillow reads) in every class folder"


def imagefolder(config: DataConfig) -> Dataset:
    """Images of your own: a folder with a folder of images for each class, with or without train/ and test/.

    `root` holds train/, test/ and val/ with a folder for each class, or train/ only, or the class folders themselves.
    Splits are known by their usual names in any case (`Training`, `valid`); other folders beside train/ are not read.
    Classes are numbered by their sorted names in the training split, before any sampling. Images may be in sub-folders
    of a class folder; links are followed once, and hidden files and folders of systems are ignored. Raises BadInput if
    there are no classes to list.
    """
    root = existing_root(config)
    folders = find_splits(root)
    train = find_classes(folders.train, root)
    test, validation = (
        None if folder is None else find_classes(folder, root) for folder in (folders.test, folders.validation)
    )
    read = [train] if test is None else [train, test]
    if misnamed := _name_problems(root, read):
        raise BadInput(misnamed)
    problems = _class_problems(train, at_least=2)
    if getattr(config, "group_by", None) is None:
        problems += layout_problems(train)
    if test is not None:
        problems += _class_problems(test, at_least=1) + _unknown_problems(train, test)
    problems += _shared_problems(read)
    if len(train) < 2 or not train.num_images:
        raise BadInput(problems)
    classes = tuple(train.of_class)
    return Dataset(
        classes,
        _listing(train, classes),
        None if test is None else _listing(test, classes),
        tuple(problems),
        None if validation is None else _listing(validation, classes),
        () if validation is None else tuple(_validation_problems(root, read, validation)),
        tuple(_notes(folders, read)),
    )


def _name_problems(root: Path, splits: Sequence[ClassFiles]) -> list[Problem]:
    """Problem of class folders and files whose names are not UTF-8."""
    misnamed: list[str] = []
    for split in splits:
        for name, files in split.of_class.items():
            paths = files.misnamed if is_utf8(name) else [split.folder / name]
            misnamed += (str(path.relative_to(root)) for path in paths)
    if not misnamed:
        return []
    expected = "names in UTF-8 of class folders and images (convmv changes the encoding of names)"
    return [Problem("root", expected, quoted(misnamed, NAMED_AT_MOST))]


def _class_problems(split: ClassFiles, at_least: int) -> list[Problem]:
    """Problems of one split by itself."""
    problems, folder = [], shown(split.folder)
    if len(split) < at_least:
        got = f"{quoted(list(split.of_class)) or 'none'} in '{folder}'{_hint(split)}"
        expected = "at least one class folder" if at_least == 1 else f"at least {at_least} class folders"
        problems.append(Problem("root", expected, got))
    if empty := [name for name, files in split.of_class.items() if not files.images]:
        left_out = sum((split.of_class[name].left_out for name in empty), Counter[str]())
        others = f", beside {left_out_in_words(left_out)}" if left_out else ""
        problems.append(Problem("root", IMAGES, f"none in {quoted(empty)} of '{folder}'{others}"))
    return problems


def _hint(split: ClassFiles) -> str:
    """What the only class folder holds, if these can be the classes; or images that are in none."""
    if not split:
        num_images = _num_images_beside(split.folder)
        return f", which holds {num_images} images itself" if num_images else ""
    if len(split) != 1:
        return ""
    inner = [child.name for child in subfolders(split.folder / next(iter(split.of_class)))]
    return f", which holds {quoted(inner, NAMED_AT_MOST)} (is it the root?)" if len(inner) > 1 else ""


def _unknown_problems(train: ClassFiles, other: ClassFiles) -> list[Problem]:
    """Problem of classes of another split without training images; the reverse is allowed."""
    unknown = [name for name in other.of_class if name not in train.of_class]
    if not unknown:
        return []
    expected = f"only classes of '{shown(train.folder)}' in {other.folder.name}/"
    looks_known = {one_form(name) for name in train.of_class} & set(map(one_form, unknown))
    advice = f" (the same name in another Unicode form: {ONE_FORM})" if looks_known else ""
    return [Problem("root", expected, quoted(unknown) + advice)]


def _validation_problems(root: Path, read: Sequence[ClassFiles], validation: ClassFiles) -> list[Problem]:
    """Problems of a validation split that matter if it is used."""
    return [
        *_name_problems(root, [validation]),
        *_unknown_problems(read[0], validation),
        *_shared_problems([*read, validation]),
    ]


def _shared_problems(splits: Sequence[ClassFiles]) -> list[Problem]:
    """Problem of images that are in two classes or splits, by a link."""
    first: dict[str, Path] = {}
    twice = []
    for files in (files for split in splits for files in split.of_class.values()):
        for image, target in zip(files.images, files.targets, strict=True):
            if target in first:
                twice.append(f"'{image}' is '{first[target]}' by a link")
            first.setdefault(target, image)
    if not twice:
        return []
    more = f", … ({len(twice)} in all)" if len(twice) > NAMED_AT_MOST else ""
    return [Problem("root", "each image in one class of one split", ", ".join(twice[:NAMED_AT_MOST]) + more)]


def _listing(split: ClassFiles, classes: Sequence[str]) -> Listing:
    images = [split.of_class[name].images if name in split.of_class else () for name in classes]
    labels = np.repeat(np.arange(len(classes)), list(map(len, images)))
    return listing_of_files([path for of_class in images for path in of_class], labels)


def _num_images_beside(folder: Path) -> int:
    """Number of images in `folder` itself, beside the class folders."""
    return sum(is_image(entry.name) for entry in entries_of(folder) if not is_folder(entry))


def _notes(folders: SplitFolders, splits: Sequence[ClassFiles]) -> Iterator[str]:
    """Yields lines about the files and folders that are not read."""
    left_out = sum((files.left_out for split in splits for files in split.of_class.values()), Counter[str]())
    if left_out:
        yield f"files left out: {left_out_in_words(left_out)}"
    for split in splits:
        folder = split.folder
        if outside := _num_images_beside(folder):
            yield f"images beside the class folders of '{folder}', not read: {outside}"
        if others := [*split.records, *system_folders(folder)]:
            yield f"no classes of '{folder}', as they belong to programs: {quoted(others, NAMED_AT_MOST)}"
    if folders.beside:
        yield f"not read, beside '{folders.train}': {quoted(folders.beside, NAMED_AT_MOST)}"
