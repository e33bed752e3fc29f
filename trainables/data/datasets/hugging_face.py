"""Datasets of images of the Hugging Face hub, through the package `datasets`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from PIL import Image

from trainables.data.config import DataConfig
from trainables.data.datasets.formats import open_image, register_readers
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.datasets.root_folder import quoted
from trainables.data.datasets.split_names import SplitName, split_named
from trainables.errors import BadInput, Problem, did_you_mean, first_line

INSTALL = "the installed package datasets for the Hugging Face hub (pip install -e '.[hub]' in the project)"
UNLABELLED = -1
"""Label of a row without one, by the convention of the hub."""


class HubSplit(Protocol):
    """The part of `datasets.Dataset` that is used: columns, and rows with values by column."""

    @property
    def features(self) -> Mapping[str, Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any) -> Any: ...
    def cast_column(self, column: str, feature: Any) -> Any: ...


def hugging_face(config: DataConfig) -> Dataset:
    """A dataset of images of the Hugging Face hub, by its `name`; needs the extra `hub`.

    It is read from the hub's cache on this machine (or in `root`), and fetched with `download: true`. No code of the
    dataset is run. Images are the only column of images, labels those of `label_column`.
    """
    return dataset_of_splits(load_splits(config), config)


def load_splits(config: DataConfig) -> Mapping[str, HubSplit]:
    """Loads all splits by name. Raises BadInput without the package, or if the dataset cannot be loaded."""
    if config.name is None:
        raise BadInput(Problem("name", "the name of a dataset of the Hugging Face hub", "nothing"))
    try:
        import datasets
    except ImportError as error:
        raise BadInput(Problem("dataset", INSTALL, first_line(error))) from error
    root = None if config.root is None else str(config.root.expanduser())
    try:
        with _offline(datasets.config, not config.download):
            splits: Mapping[str, HubSplit] = datasets.load_dataset(config.name, config.config_name, cache_dir=root)
    except Exception as error:  # the hub's client and the readers raise any kind of error
        source = "on the Hugging Face hub" if config.download else "in its cache (data.download: true fetches it)"
        raise BadInput(Problem("name", f"a dataset that can be loaded, {source}", first_line(error))) from error
    return splits


@contextmanager
def _offline(settings: Any, is_offline: bool) -> Iterator[None]:
    """Keeps the hub's client from the network inside the block, as its environment variable does for a process."""
    before = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = before or is_offline
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = before


def dataset_of_splits(splits: Mapping[str, HubSplit], config: DataConfig) -> Dataset:
    """Builds the dataset of splits that have been loaded; their names are the usual ones, in any case.

    Classes are in the order of the feature ClassLabel, or sorted. A split without any label is left out, as are splits
    of other names. Raises BadInput for missing splits, columns and labels.
    """
    by_split, others = _named_splits(splits)
    columns = {name: _columns(split, config) for name, split in by_split.items()}
    names: dict[SplitName, list[str | None]] = {
        name: _label_names(split, columns[name][1]) for name, split in by_split.items()
    }
    problems = [*_missing_labels(names, config)]
    labelled = [name for name in by_split if any(label is not None for label in names[name])]
    notes = [f"the {name} split is not read, as it has no labels" for name in by_split if name not in labelled]
    notes += [f"not read: the splits {quoted(others)}"] if others else []
    present = {label for label in names["train"] if label is not None}
    ordered = getattr(by_split["train"].features[columns["train"][1]], "names", None) or sorted(present)
    classes = tuple(label for label in ordered if label in present)
    problems += [*_unknown_labels({name: names[name] for name in labelled}, classes)]
    if len(classes) < 2:
        problems.append(Problem("name", "at least 2 classes of training images", quoted(classes) or "none"))
    if problems:
        raise BadInput(problems)
    listings = {
        name: _listing(by_split[name], f"{config.name}: {name}", columns[name][0], [*map(str, names[name])], classes)
        for name in labelled
    }
    return Dataset(
        classes, listings["train"], listings.get("test"), validation=listings.get("validation"), notes=tuple(notes)
    )


def _named_splits(splits: Mapping[str, HubSplit]) -> tuple[dict[SplitName, HubSplit], list[str]]:
    """The splits by their usual names, and the names of the others. A single split is for training."""
    found: dict[SplitName, HubSplit] = {}
    others = []
    for name, split in splits.items():
        usual: SplitName | None = "train" if len(splits) == 1 else split_named(name)
        if usual is None or usual in found:
            others.append(name)
        else:
            found[usual] = split
    if "train" not in found:
        raise BadInput(Problem("name", "a dataset with a split train", f"the splits {quoted(list(splits))}"))
    return found, others


def _columns(split: HubSplit, config: DataConfig) -> tuple[str, str]:
    """The names of the columns of images and of labels."""
    features = split.features
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if len(images) != 1:
        got = quoted(images) or f"none of {quoted(list(features))}"
        raise BadInput(Problem("name", "a dataset with one column of images", got))
    if config.label_column not in features:
        got = (
            f"{config.label_column!r}, not one of {quoted(list(features))}{did_you_mean(config.label_column, features)}"
        )
        raise BadInput(Problem("label_column", "a column of the dataset", got))
    return images[0], config.label_column


def _label_names(split: HubSplit, column: str) -> list[str | None]:
    """The name of each row's label; None for a row without one."""
    names: Sequence[str] | None = getattr(split.features[column], "names", None)
    values = list(split[column])
    if names is None:
        return [None if value is None else str(value) for value in values]
    return [None if value is None or value == UNLABELLED else names[value] for value in values]


def _missing_labels(names: Mapping[SplitName, Sequence[str | None]], config: DataConfig) -> Iterator[Problem]:
    for split, labels in names.items():
        missing = sum(label is None for label in labels)
        if missing and (missing < len(labels) or split == "train"):
            got = f"none for {missing} of {len(labels)}"
            yield Problem("label_column", f"a label for every row of the {split} split ({config.label_column})", got)


def _unknown_labels(names: Mapping[SplitName, Sequence[str | None]], classes: Sequence[str]) -> Iterator[Problem]:
    """Problems of labels without training images; the reverse is allowed."""
    for split, labels in names.items():
        if unknown := sorted({label for label in labels if label is not None} - set(classes)):
            yield Problem("label_column", f"only labels of training images in the {split} split", quoted(unknown, 10))


def _listing(split: HubSplit, name: str, column: str, labels: Sequence[str], classes: Sequence[str]) -> Listing:
    """Lists a split. Its images are read encoded, so that they are decoded as those of files."""
    encoded = split.cast_column(column, type(split.features[column])(decode=False))
    label_of = {label: k for k, label in enumerate(classes)}

    def read(i: int) -> Image.Image:
        image = encoded[int(i)][column]
        if image["bytes"] is None:
            return open_image(image["path"])
        register_readers()
        return Image.open(io.BytesIO(image["bytes"]))

    numbers = np.array([label_of[label] for label in labels], dtype=np.int64)
    return Listing(numbers, [f"{name} {i}" for i in range(len(labels))], read)
