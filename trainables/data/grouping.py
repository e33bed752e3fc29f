"""Groups of examples that belong together, as several photographs of one object.

Scores are optimistic where one half of a group is trained on and the other validated: folds and the hold-out keep
groups whole. Which examples are a group is said by `data.group_by`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.data.config import COLUMN, DataConfig
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.images import Ints
from trainables.errors import BadInput, Problem


def with_groups(config: DataConfig, dataset: Dataset) -> Dataset:
    """Returns the dataset with the groups of `group_by` in its training split, and without any where that is None.

    An example that has none is a group by itself, of its own name; so is each of a validation split of its own, of
    which no folds are made. Raises BadInput if `group_by` fits no example.
    """
    groups, validation = None, dataset.validation
    if config.group_by is not None:
        found = _found(config, dataset)
        groups = [name if group is None else group for group, name in zip(found, dataset.train.names, strict=True)]
        validation = None if validation is None else replace(validation, groups=validation.names)
    return replace(dataset, train=replace(dataset.train, groups=groups), validation=validation)


def group_numbers(listing: Listing) -> Ints | None:
    """The groups of a listing as numbers N from 0, in the order of their names; None where it has none."""
    if listing.groups is None:
        return None
    return np.unique(np.asarray(listing.groups, dtype=str), return_inverse=True)[1].astype(np.int64)


def _found(config: DataConfig, dataset: Dataset) -> Sequence[str | None]:
    """The group of each training example, None where it has none. Raises BadInput if none has."""
    listing, by = dataset.train, config.group_by
    if by == COLUMN:
        if listing.groups is None:
            expected = "a level of sub-folders or a regular expression (a manifest with a column `group` has groups)"
            raise BadInput(Problem("group_by", expected, f"{COLUMN!r} with dataset {config.dataset}, which has none"))
        return [group or None for group in listing.groups]
    if not listing.in_files:
        got = f"{by!r} with dataset {config.dataset}, whose examples are not files"
        raise BadInput(Problem("group_by", "none", got))
    if isinstance(by, int):
        return _by_folder(config, dataset, by)
    assert isinstance(by, str)
    pattern = re.compile(by)
    matches = [pattern.search(Path(name).name) for name in listing.names]
    found = [match[1] if match else None for match in matches]
    if not any(found):
        expected = f"a regular expression that is found in names of files, as '{Path(listing.names[0]).name}'"
        raise BadInput(Problem("group_by", expected, f"{by!r}, which is in none of {len(listing)}"))
    return [group or None for group in found]


def _by_folder(config: DataConfig, dataset: Dataset, level: int) -> list[str | None]:
    """The path of the sub-folder of that level below the class folder, the same in all classes."""
    listing = dataset.train
    classes = [dataset.class_names[label] for label in listing.labels]
    parts = [_below_class(config, name, folder) for name, folder in zip(listing.names, classes, strict=True)]
    if all(folders is None for folders in parts):
        got = f"level {level} with dataset {config.dataset}, whose files are in no class folders"
        raise BadInput(Problem("group_by", "a regular expression on the files' names", got))
    found = ["/".join(folders[:level]) if folders and len(folders) >= level else None for folders in parts]
    if not any(found):
        deepest = max(len(folders) for folders in parts if folders is not None)
        got = f"level {level}, where there {f'are {deepest} levels' if deepest else 'are none'}"
        raise BadInput(Problem("group_by", "a level of sub-folders below the class folders", got))
    return found


def _below_class(config: DataConfig, name: str, class_folder: str) -> tuple[str, ...] | None:
    """The folders between the class folder and the file; None where the file is in no folder of the class's name."""
    path = Path(name)
    root = None if config.root is None else config.root.expanduser()
    folders = (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).parts[:-1]
    return folders[folders.index(class_folder) + 1 :] if class_folder in folders else None
