"""Loading of the examples of a `data` section, and the checks that need no decoding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainables.data.cache import cached
from trainables.data.config import TEXT_VIEW, DataConfig
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.datasets.registry import open_dataset
from trainables.data.decoding import decode_all, try_decoding
from trainables.data.examples import Examples
from trainables.data.folds import check_folds
from trainables.data.images import LabelledImages
from trainables.data.sampling import (
    class_problems,
    draw_classes,
    draw_images,
    hold_out,
    num_held_out,
    num_train_images,
    size_problems,
    train_size_key,
)
from trainables.data.texts import LabelledTexts
from trainables.errors import BadInput, Problem

VIEW_FIELDS = {"size_px", "resize_px", "crop", "flip", *TEXT_VIEW}
"""Fields that are applied to decoded images (`resize_px` enters the key as `stored_px`), or to raw texts."""
SAFEGUARD_FIELDS = {"download", "check_counts"}
"""Fields that do not change the images."""


@dataclass(frozen=True, eq=False)
class Splits:
    """The sample before decoding: the drawn classes, and the images of both splits."""

    class_names: tuple[str, ...]
    train: Listing
    test: Listing


@dataclass(frozen=True)
class DataSummary:
    """Sizes of the sample: its classes, and the number of images of each in both splits."""

    class_names: tuple[str, ...]
    train_per_class: tuple[int, ...]
    test_per_class: tuple[int, ...]

    @property
    def num_train(self) -> int:
        """Number of training images, of all folds together."""
        return sum(self.train_per_class)

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return sum(self.test_per_class)


def load_train(config: DataConfig) -> Examples:
    """Loads the sampled training images (decoded) or texts, and no others. Raises BadInput with all problems.

    >>> images = load_train(DataConfig(dataset="digits", size_px=28, train_images=100))
    >>> len(images), images.num_classes, images.pixels.shape
    (100, 10, (100, 32, 32, 3))
    """
    splits = plan_splits(config)
    return _load(splits.train, splits.class_names, config)


def load_test(config: DataConfig) -> Examples:
    """Loads the sampled test images (decoded) or texts, and no others. Raises BadInput with all problems."""
    splits = plan_splits(config)
    return _load(splits.test, splits.class_names, config)


def check_data(config: DataConfig, num_folds: int | None) -> DataSummary:
    """Lists and samples the dataset without decoding. Raises BadInput with all problems, keys below `data`.

    A stratified sample has to have every class in every fold. A uniform one, the authors' protocol, may lack classes,
    and only needs an image for each fold. `num_folds` None: no folds are planned.

    >>> check_data(DataConfig(dataset="digits", train_images=100), num_folds=5).num_train
    100
    """
    splits = plan_splits(config)
    if num_folds is not None:
        labels, every_class = splits.train.labels, config.sampling == "stratified"
        if problems := check_folds(labels, splits.class_names, num_folds, every_class, where=train_size_key(config)):
            raise BadInput(problems)
    return DataSummary(splits.class_names, _per_class(splits, splits.train), _per_class(splits, splits.test))


def check_decodes(config: DataConfig, split: Literal["train", "test"]) -> None:
    """Decodes the sampled images of `split` into the cache, unless they are there, and keeps none in memory.

    Raises BadInput with every image that does not decode.
    """
    splits = plan_splits(config)
    if config.has_texts:
        return  # plan_splits has read them
    listing = splits.train if split == "train" else splits.test
    if cached(listing, config.stored_px, config.resize) is None:
        try_decoding(listing, config.stored_px, config.resize)


def example_names(config: DataConfig) -> tuple[list[str], list[str]]:
    """Names of the sampled training and test examples, in the order of `load_train` and `load_test`: paths below `root`
    of files, and what the dataset calls others. Raises BadInput with all problems."""
    splits = plan_splits(config)
    return _short_names(config, splits.train), _short_names(config, splits.test)


def _short_names(config: DataConfig, listing: Listing) -> list[str]:
    if config.root is None or not listing.in_files:
        return list(listing.names)
    root = config.root.expanduser().resolve()
    paths = [Path(name) for name in listing.names]
    return [str(path.relative_to(root)) if path.is_relative_to(root) else str(path) for path in paths]


def source_key(config: DataConfig) -> str:
    """Hash of the decoded sample: equal for configurations that differ only in the view, in every process.

    It does not depend on the contents of the files, and is meant for one run; see `content_key` for the cache on disk.
    """
    fields = config.model_dump(mode="json", exclude=VIEW_FIELDS | SAFEGUARD_FIELDS) | {"stored_px": config.stored_px}
    if config.root is not None:
        fields["root"] = str(config.root.expanduser().resolve())
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def test_key(config: DataConfig) -> str:
    """Hash of the test split alone, which does not depend on the number of training images."""
    return source_key(config.model_copy(update={"train_images": None, "train_fraction": 1.0}))


def plan_splits(config: DataConfig) -> Splits:
    """Lists the dataset and draws the sample. Raises BadInput with all problems."""
    dataset = open_dataset(config)
    classes = draw_classes(len(dataset.class_names), config.class_fraction, config.sampling_seed)
    train = dataset.train.of_classes(classes)
    test = dataset.test.of_classes(classes) if dataset.test is not None else None
    if problems := _problems(config, dataset, len(classes), train, test):
        raise BadInput(problems)
    if test is None:
        train, test = _with_held_out(config, train)
    elif config.test_images is not None:
        test = _drawn(config, test, config.test_images, "test_images")
    train = _drawn(config, train, num_train_images(config, len(train)), "train_images")
    return Splits(tuple(dataset.class_names[k] for k in classes), train, test)


def _problems(
    config: DataConfig, dataset: Dataset, num_classes: int, train: Listing, test: Listing | None
) -> list[Problem]:
    num_test = None if test is None else len(test)
    sizes = size_problems(config, num_classes, len(train), num_test)
    return [*dataset.problems, *class_problems(config, len(dataset.class_names)), *sizes]


def _with_held_out(config: DataConfig, pool: Listing) -> tuple[Listing, Listing]:
    kept, held_out = hold_out(pool.labels, num_held_out(config, len(pool)), config.sampling_seed)
    return pool.take(kept), pool.take(held_out)


def _drawn(config: DataConfig, pool: Listing, count: int, purpose: str) -> Listing:
    return pool.take(draw_images(pool.labels, count, config.sampling, config.sampling_seed, purpose))


def _load(listing: Listing, class_names: tuple[str, ...], config: DataConfig) -> Examples:
    if config.has_texts:
        return LabelledTexts.of([listing.read(i) for i in range(len(listing))], listing.labels, class_names)
    if kept := cached(listing, config.stored_px, config.resize):
        file, pixels = kept
        return LabelledImages.of(pixels, listing.labels, class_names, file)
    pixels = decode_all(listing, config.stored_px, config.resize)
    pixels.flags.writeable = False  # trials and folds share it
    return LabelledImages.of(pixels, listing.labels, class_names)


def _per_class(splits: Splits, listing: Listing) -> tuple[int, ...]:
    return tuple(np.bincount(listing.labels, minlength=len(splits.class_names)).tolist())
