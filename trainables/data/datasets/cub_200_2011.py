"""Caltech-UCSD Birds-200-2011 (Wah et al., 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.published import NAMED_AT_MOST, Published, Split, complete_folder, dataset_of, lines_of
from trainables.data.datasets.root_folder import quoted
from trainables.errors import BadInput, Problem

CUB = Published(
    folder="CUB_200_2011",
    files=("images", "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"),
    num_classes=200,
    num_train=5994,
    num_test=5794,
    where="www.vision.caltech.edu/datasets/cub_200_2011",
)


class _Lists(NamedTuple):
    """The four lists, by the number at the beginning of each line: of the image, or (`classes`) of the class."""

    images: dict[int, str]
    image_class_labels: dict[int, str]
    train_test_split: dict[int, str]
    classes: dict[int, str]


def cub_200_2011(config: DataConfig) -> Dataset:
    """Caltech-UCSD Birds-200-2011 (Wah et al., 2011): 11,788 photographs of 200 species of birds.

    The lists are joined on the number of the image, in any order of their lines; torchvision has no reader. Classes are
    numbered from 1 in the lists and from 0 here, and named without their number.
    """
    folder = complete_folder(config, CUB)
    lists = _Lists(*(_numbered(folder / f"{name}.txt") for name in _Lists._fields))
    if problems := list(_join_problems(lists)):
        raise BadInput(problems)
    numbers = sorted(lists.classes)
    label_of = {number: label for label, number in enumerate(numbers)}

    def split(is_train: str) -> Split:
        images = [i for i in sorted(lists.images) if lists.train_test_split[i] == is_train]
        labels = [label_of[int(lists.image_class_labels[i])] for i in images]
        return Split([folder / "images" / lists.images[i] for i in images], labels)

    names = [lists.classes[number].removeprefix(f"{number:03}.") for number in numbers]
    return dataset_of(config, CUB, names, train=split("1"), test=split("0"))


def _numbered(file: Path) -> dict[int, str]:
    """Reads the values of a list by their numbers. Raises BadInput for a malformed line."""
    entries: dict[int, str] = {}
    for line_number, line in enumerate(lines_of(file), start=1):
        number, _, value = line.strip().partition(" ")
        if not number.isdecimal() or not value or int(number) in entries:
            expected = f"a number of its own and a value in every line of '{file}'"
            raise BadInput(Problem("root", expected, f"{line!r} in line {line_number}"))
        entries[int(number)] = value
    return entries


def _join_problems(lists: _Lists) -> Iterator[Problem]:
    for name in ("image_class_labels", "train_test_split"):
        joined: dict[int, str] = getattr(lists, name)
        if missing := [str(number) for number in lists.images if number not in joined]:
            expected = f"a line in {name}.txt for every image of images.txt"
            yield Problem("root", expected, f"none for image {quoted(missing, NAMED_AT_MOST)}")
    known = {str(number) for number in lists.classes}
    if unknown := sorted(set(lists.image_class_labels.values()) - known):
        expected = "a line in classes.txt for every class of image_class_labels.txt"
        yield Problem("root", expected, f"none for class {quoted(unknown, NAMED_AT_MOST)}")
    if odd := sorted(set(lists.train_test_split.values()) - {"0", "1"}):
        yield Problem("root", "1 (training) or 0 (test) for every image of train_test_split.txt", quoted(odd))
