"""Published datasets in their original layout: found below `root`, and checked for completeness.

Three of them are listed by torchvision's readers; with `Path` as loader, these return paths and decode nothing. Their
errors for missing files are vague, so files are checked before.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset, listing_of_files
from trainables.data.datasets.root_folder import existing_root, quoted
from trainables.errors import BadInput, Problem

NAMED_AT_MOST = 10
"""Largest number of names in one message."""


@dataclass(frozen=True)
class Published:
    """Facts of a dataset: the `folder` in its archive ("": none), the `files` needed, sizes, and `where` to get it."""

    folder: str
    files: tuple[str, ...]
    num_classes: int
    num_train: int
    num_test: int
    where: str


class Split(NamedTuple):
    """The files of a split and their labels, in a fixed order."""

    paths: Sequence[Path]
    labels: Sequence[int]


def complete_folder(config: DataConfig, published: Published) -> Path:
    """The dataset's folder, which is `root` or in `root`. Raises BadInput with all of `files` that it lacks."""
    folder = _find_folder(config, published)
    missing = [name for name in published.files if not (folder / name).exists()]
    if missing:
        expected = f"the files as published (from {published.where})"
        raise BadInput(Problem("root", expected, f"'{folder}' without {quoted(missing)}"))
    return folder


def download(config: DataConfig, published: Published, reader: Callable[..., Any]) -> None:
    """Downloads and unpacks the dataset below `root` with torchvision's `reader`, unless its folder exists.

    Raises BadInput if the download fails.
    """
    if config.root is None:
        return  # complete_folder raises
    root = config.root.expanduser().absolute()
    if root.name == published.folder:
        root = root.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        reader(root, download=True)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        expected = (
            f"a download that succeeds (delete what it left in '{root}', or unpack there what is at {published.where})"
        )
        raise BadInput(Problem("download", expected, f"{type(error).__name__}: {error}")) from error


def listed_by(dataset: Any) -> Split:
    """Lists a torchvision dataset with loader `Path`."""
    samples = [dataset[i] for i in range(len(dataset))]
    return Split([path for path, _ in samples], [int(label) for _, label in samples])


@contextmanager
def reading(folder: Path, published: Published) -> Iterator[None]:
    """Turns any error of a reader inside the block into BadInput about the lists in `folder`."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # scipy, json and torchvision raise any kind of error for a damaged file
        expected = f"its lists as published (from {published.where})"
        raise BadInput(Problem("root", expected, f"'{folder}': {type(error).__name__}: {error}")) from error


def dataset_of(config: DataConfig, published: Published, classes: Iterable[str], train: Split, test: Split) -> Dataset:
    """Builds the dataset; its problems include unexpected counts and files on the lists that do not exist."""
    names = tuple(name.replace("/", "-") for name in classes)  # a name may be used for a folder
    problems = _count_problems(published, len(names), train, test) if config.check_counts else []
    problems += _absent_problems(published, [*train.paths, *test.paths])
    return Dataset(names, listing_of_files(*train), listing_of_files(*test), tuple(problems))


def lines_of(file: Path) -> list[str]:
    """The lines of a list that are not blank, without line ends; spaces are kept, as parts of names."""
    with file.open(encoding="utf-8", newline=None) as lines:
        return [line.rstrip("\n") for line in lines if line.strip()]


def _find_folder(config: DataConfig, published: Published) -> Path:
    root = existing_root(config).absolute()
    inner = root / published.folder
    if inner.is_dir():
        return inner
    if root.name == published.folder:
        return root
    expected = f"the folder '{published.folder}' or the one that holds it (from {published.where})"
    got = quoted(sorted(child.name for child in root.iterdir()), NAMED_AT_MOST) or "nothing"
    raise BadInput(Problem("root", expected, f"'{root}', which holds {got}"))


def _count_problems(published: Published, num_classes: int, train: Split, test: Split) -> list[Problem]:
    got = (num_classes, len(train.labels), len(test.labels))
    counts = (published.num_classes, published.num_train, published.num_test)
    if got == counts:
        return []
    expected = f"{_counts(*counts)}, as published (data.check_counts: false takes what there is)"
    return [Problem("root", expected, _counts(*got))]


def _counts(num_classes: int, num_train: int, num_test: int) -> str:
    return f"{num_train} training and {num_test} test images of {num_classes} classes"


def _absent_problems(published: Published, paths: Sequence[Path]) -> list[Problem]:
    """Problem of files that do not exist. Lists each folder once, as tests of single files are slow on a network."""
    present = {folder: set(os.listdir(folder)) if folder.is_dir() else set() for folder in {p.parent for p in paths}}
    absent = [str(path) for path in paths if path.name not in present[path.parent]]
    if not absent:
        return []
    expected = f"every image that its lists name (from {published.where})"
    return [Problem("root", expected, f"no {quoted(absent, NAMED_AT_MOST)}")]
