"""Photographs that a command is given: files, folders with all that is below them, and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trainables.data.datasets.folders import is_of_system, subfolders
from trainables.data.datasets.formats import is_image, readable_endings
from trainables.data.datasets.root_folder import quoted
from trainables.data.images import Ints
from trainables.errors import BadInput, Problem, did_you_mean

MAX_NAMED = 10
"""Number of class names that an error lists."""


def photos_of(given: Sequence[str]) -> list[str]:
    """Lists the files of the arguments of a command, each once, in their order.

    A folder stands for the image files below it, by their endings, without hidden ones; a pattern (`*.jpg`,
    `**/*.jpg`) that is no file for what it matches; a file for itself, whatever its ending.

    Raises:
        BadInput: with every argument that stands for nothing.
    """
    found: dict[str, None] = {}
    problems = []
    for argument in given:
        files = list(_files_of(argument))
        found.update(dict.fromkeys(files))
        if not files:
            problems.append(_stands_for_nothing(argument))
    if problems:
        raise BadInput(problems)
    return list(found)


def labelled_photos(folders: Sequence[str], class_names: Sequence[str]) -> tuple[list[str], Ints]:
    """Lists the image files in folders that hold a folder for each class, and their labels.

    Labels are positions in `class_names`, those of the model.

    Raises:
        BadInput: with every folder that is none, or that is of a class that the model does not know.
    """
    photos: list[str] = []
    labels: list[int] = []
    problems = []
    for folder in map(Path, folders):
        classes = subfolders(folder) if folder.is_dir() else []
        problems += _class_problems(folder, [path.name for path in classes], class_names)
        for path in classes:
            if path.name in class_names:
                files = list(_images_below(str(path)))
                photos += files
                labels += [list(class_names).index(path.name)] * len(files)
    if not problems and not photos:
        problems = [Problem(", ".join(folders), "image files in the folders of classes", "none")]
    if problems:
        raise BadInput(problems)
    return photos, np.array(labels, dtype=np.int64)


def _class_problems(folder: Path, found: Sequence[str], class_names: Sequence[str]) -> list[Problem]:
    expected = f"a folder that holds folders of the model's classes ({quoted(class_names, MAX_NAMED)})"
    if not found:
        return [Problem(str(folder), expected, "no folder" if not folder.is_dir() else "none in it")]
    unknown = [name for name in found if name not in class_names]
    return [Problem(str(folder / name), expected, f"{name!r}{did_you_mean(name, class_names)}") for name in unknown]


def _files_of(argument: str) -> Iterator[str]:
    if os.path.isdir(argument):
        yield from _images_below(argument)
    elif os.path.lexists(argument):
        yield argument
    elif glob.has_magic(argument):
        for match in sorted(glob.glob(argument, recursive=True)):
            yield from _images_below(match) if os.path.isdir(match) else (match,)


def _images_below(folder: str) -> Iterator[str]:
    """Yields the image files below a folder, in the order of their names, as training takes them: links to folders are
    followed once, and what systems have made is left out."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_of_system(name, is_folder=True))
        images = (name for name in sorted(files) if is_image(name) and not is_of_system(name, is_folder=False))
        yield from (os.path.join(parent, name) for name in images)


def _stands_for_nothing(argument: str) -> Problem:
    if os.path.isdir(argument):
        return Problem(argument, f"image files ({', '.join(sorted(readable_endings()))}) below the folder", "none")
    return Problem(argument, "an image file, a folder or a pattern", "no such file")
