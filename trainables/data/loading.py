"""Loading of the examples of a `data` section, and the checks that need no decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainables.data.cache import cached
from trainables.data.config import AUGMENTATION, TEXT_VIEW, DataConfig
from trainables.data.datasets.listing import Dataset, Listing, joined
from trainables.data.datasets.registry import open_dataset
from trainables.data.decoding import decode_all, try_decoding
from trainables.data.examples import Examples
from trainables.data.folds import check_folds
from trainables.data.grouping import group_numbers, with_groups
from trainables.data.images import Ints, LabelledImages, Mask
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

VIEW_FIELDS = {"size_px", "resize_px", *AUGMENTATION, *TEXT_VIEW}
"""Fields that are applied to decoded images (`resize_px` enters the key as `stored_px`), or to raw texts."""
SAFEGUARD_FIELDS = {"download", "check_counts"}
"""Fields that do not change the images."""


@dataclass(frozen=True, eq=False)
class Splits:
    """The sample before decoding: the drawn classes, and the images of both splits.

    The last `num_validation` of `train` are of the dataset's own validation split. `notes` are about what
    was not read.
    """

    class_names: tuple[str, ...]
    train: Listing
    test: Listing
    notes: tuple[str, ...] = ()
    num_validation: int = 0


@dataclass(frozen=True)
class DataSummary:
    """Sizes of the sample: its classes, and the number of images of each in both splits.

    `notes` are lines about what was not read.

    >>> print(DataSummary(("ape", "bee"), (5, 3), (2, 2)))
    8 training and 4 test images, 2 classes of 3 ('bee') to 5 ('ape') training images
    """

    class_names: tuple[str, ...]
    train_per_class: tuple[int, ...]
    test_per_class: tuple[int, ...]
    notes: tuple[str, ...] = ()
    num_groups: int | None = None
    """Number of groups of training images that folds do not split; None without `group_by`."""
    num_validation: int = 0
    """Number of the training images that are of the dataset's own validation split, with `validation: folder`."""

    @property
    def num_dealt(self) -> int:
        """Number of training images without those of the dataset's own validation split."""
        return self.num_train - self.num_validation

    @property
    def num_train(self) -> int:
        """Number of training images, of all folds together."""
        return sum(self.train_per_class)

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return sum(self.test_per_class)

    def __str__(self) -> str:
        counts, names = self.train_per_class, self.class_names
        smallest, largest = min(counts), max(counts)
        sizes = f"{smallest} training images each"
        if smallest < largest:
            rarest, commonest = names[counts.index(smallest)], names[counts.index(largest)]
            sizes = f"{smallest} ('{rarest}') to {largest} ('{commonest}') training images"
        return f"{self.num_train} training and {self.num_test} test images, {len(names)} classes of {sizes}"


def load_train(config: DataConfig) -> Examples:
    """Loads the sampled training images (decoded) or texts, and no others. Raises BadInput with all problems.

    >>> images = load_train(DataConfig(dataset="digits", size_px=28, train_images=100))
    >>> len(images), images.num_classes, images.pixels.shape
    (100, 10, (100, 32, 32, 3))
    """
    splits = plan_splits(config)
    validated = None
    if splits.num_validation:
        validated = np.arange(len(splits.train)) >= len(splits.train) - splits.num_validation
    return _load(splits.train, splits.class_names, config, validated)


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
    if num_folds is not None and config.validation == "folds":
        labels, groups, every_class = splits.train.labels, group_numbers(splits.train), config.sampling == "stratified"
        where = train_size_key(config)
        if problems := check_folds(labels, splits.class_names, num_folds, every_class, where, groups):
            raise BadInput(problems)
    train, test = _per_class(splits, splits.train), _per_class(splits, splits.test)
    num_groups = _num_groups(splits.train)
    return DataSummary(
        splits.class_names,
        train,
        test,
        notes=splits.notes,
        num_groups=num_groups,
        num_validation=splits.num_validation,
    )


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
    return short_names(config, splits.train), short_names(config, splits.test)


def short_names(config: DataConfig, listing: Listing) -> list[str]:
    """Names of a listing: paths below `root`, or below the folder of a manifest, if they are of files there."""
    folder = config.root or (None if config.file is None else config.file.parent)
    if folder is None or not listing.in_files:
        return list(listing.names)
    folder, paths = folder.expanduser(), [Path(name) for name in listing.names]
    return [path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path) for path in paths]


def source_key(config: DataConfig) -> str:
    """Hash of the decoded sample: equal for configurations that differ only in the view, in every process.

    It does not depend on the contents of the files, and is meant for one run; see `content_key` for the cache on disk.
    """
    fields = config.model_dump(mode="json", exclude=VIEW_FIELDS | SAFEGUARD_FIELDS) | {"stored_px": config.stored_px}
    for key in ("root", "file"):
        if (path := getattr(config, key)) is not None:
            fields[key] = str(path.expanduser().resolve())
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def test_key(config: DataConfig) -> str:
    """Hash of the test split alone, which does not depend on the number of training images."""
    return source_key(config.model_copy(update={"train_images": None, "train_fraction": 1.0}))


def plan_splits(config: DataConfig) -> Splits:
    """Lists the dataset and draws the sample. Raises BadInput with all problems."""
    dataset = with_groups(config, open_dataset(config))
    classes = draw_classes(len(dataset.class_names), config.class_fraction, config.sampling_seed)
    train = dataset.train.of_classes(classes)
    test = dataset.test.of_classes(classes) if dataset.test is not None else None
    if problems := _problems(config, dataset, len(classes), train, test):
        raise BadInput(problems)
    if test is None:
        train, test = _with_held_out(config, train)
    elif config.test_images is not None:
        test = _drawn(config, test, config.test_images, "test_images")
    count = num_train_images(config, len(train))
    if count > len(train):  # whole groups were held out, which may be more than asked for
        expected = f"at most {len(train)}, the images that the groups of the test split leave for training"
        raise BadInput(Problem(train_size_key(config), expected, str(count)))
    train = _drawn(config, train, count, "train_images")
    validation = _validation_of(config, dataset, classes)
    train = train if validation is None else joined(train, validation)
    class_names = tuple(dataset.class_names[k] for k in classes)
    notes = (*dataset.notes, *_unread(config, dataset))
    num_validation = 0 if validation is None else len(validation)
    return Splits(class_names, train, test, notes=notes, num_validation=num_validation)


def _unread(config: DataConfig, dataset: Dataset) -> Iterator[str]:
    """Yields a line about a validation split that is not used."""
    if dataset.validation is not None and config.validation == "folds":
        count = len(dataset.validation)
        yield f"images of a validation split, not read: {count} (data.validation: folder validates with them)"


def _validation_of(config: DataConfig, dataset: Dataset, classes: Ints) -> Listing | None:
    """The images of the drawn classes in the dataset's own validation split, if that is to be used."""
    if config.validation == "folds":
        return None
    if dataset.validation is None:
        got = f"'folder', where dataset {config.dataset} has no validation split, as val/ beside train/"
        raise BadInput(Problem("validation", "'folds'", got))
    if dataset.validation_problems:
        raise BadInput(dataset.validation_problems)
    validation = dataset.validation.of_classes(classes)
    if not len(validation):
        raise BadInput(Problem("validation", "an image in the validation split", "none"))
    return validation


def _problems(
    config: DataConfig, dataset: Dataset, num_classes: int, train: Listing, test: Listing | None
) -> list[Problem]:
    num_test = None if test is None else len(test)
    sizes = size_problems(config, num_classes, len(train), num_test)
    return [*dataset.problems, *class_problems(config, len(dataset.class_names)), *sizes]


def _with_held_out(config: DataConfig, pool: Listing) -> tuple[Listing, Listing]:
    groups = group_numbers(pool)
    kept, held_out = hold_out(pool.labels, num_held_out(config, len(pool)), config.sampling_seed, groups)
    if not len(held_out):
        expected = "a class in at least 2 groups, of which one can be held out as test split"
        raise BadInput(Problem("group_by", expected, f"{len(pool)} images in {_num_groups(pool)}"))
    return pool.take(kept), pool.take(held_out)


def _drawn(config: DataConfig, pool: Listing, count: int, purpose: str) -> Listing:
    return pool.take(draw_images(pool.labels, count, config.sampling, config.sampling_seed, purpose))


def _load(
    listing: Listing, class_names: tuple[str, ...], config: DataConfig, validated: Mask | None = None
) -> Examples:
    groups = group_numbers(listing)
    if config.has_texts:
        texts = [listing.read(i) for i in range(len(listing))]
        return LabelledTexts.of(texts, listing.labels, class_names, groups, validated)
    if kept := cached(listing, config.stored_px, config.resize):
        file, pixels = kept
        return LabelledImages.of(pixels, listing.labels, class_names, file, groups, validated)
    pixels = decode_all(listing, config.stored_px, config.resize)
    pixels.flags.writeable = False  # trials and folds share it
    return LabelledImages.of(pixels, listing.labels, class_names, None, groups, validated)


def _num_groups(listing: Listing) -> int | None:
    return None if listing.groups is None else len(set(listing.groups))


def _per_class(splits: Splits, listing: Listing) -> tuple[int, ...]:
    return tuple(np.bincount(listing.labels, minlength=len(splits.class_names)).tolist())
