"""The `data` section of an experiment: dataset, sample, and preprocessing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from trainables.frozen import Frozen
from trainables.paths import POSSIBLE

Fraction = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]
"""Strength or probability of an augmentation; 0 leaves it out."""


def _crop_named(value: object) -> object:
    """Names the kind of crop where `value` is a boolean, as in files and records of earlier versions."""
    if isinstance(value, bool):
        return "random" if value else "none"
    return value


Crop = Annotated[Literal["none", "random", "random_resized"], BeforeValidator(_crop_named)]
"""Crops in training. `true` is read as `random`, and `false` as `none`."""

MAX_SIZE_PX = 4096
"""Largest side of a network's input: no published network has a larger one, and an image then takes 66 MB decoded."""

TEXT_DATASETS = frozenset({"sst5"})
AUGMENTATION = (
    "crop",
    "crop_area",
    "crop_aspect",
    "flip",
    "color_jitter",
    "auto_augment",
    "auto_augment_magnitude",
    "erasing",
)
"""Keys that change the training view alone; evaluation does not depend on them."""
IMAGE_VIEW = ("resize", "resize_px", "size_px", *AUGMENTATION)
KEYS_OF_DATASETS = {
    "manifest": ("file", "path_column", "label_column", "split_column", "group_column"),
    "hugging_face": ("name", "config_name", "label_column"),
}
"""Keys that some datasets alone have."""
TEXT_VIEW = ("max_tokens",)

COLUMN = "column"
"""Value of `group_by`: the column `group` of a manifest."""
GROUPINGS = f"a level of sub-folders (1, 2, …), {COLUMN}, or a regular expression with a group, as '^(.+)_[0-9]+'"


def _grouping(value: Any) -> Any:
    """Refuses what is neither a level, nor `column`, nor a regular expression with a capturing group."""
    if value is None or value == COLUMN or (type(value) is int and value >= 1):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{GROUPINGS}, got {value!r}")
    try:
        num_groups = re.compile(value).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{GROUPINGS}, got {value!r}, which is none: {error}") from None
    if num_groups == 0:
        raise ValueError(f"{GROUPINGS}, got {value!r}, without such a group")
    return value


class DataConfig(Frozen):
    """Dataset, sample and view.

    The *sample* is drawn by `sampling_seed` alone, so that repeats with other training seeds have the same images. The
    *view* (`size_px` and the augmentations, from `crop` to `erasing`) is applied to each batch of images, which were
    decoded once at `resize_px`. A dataset of texts is sampled by the same keys, in which a text counts as an image; its
    view is `max_tokens`. What `color_jitter`, `auto_augment` and `erasing` do is in `trainables.data.image_transforms`.

    >>> DataConfig(dataset="digits", size_px=28, train_images=400).stored_px
    32
    """

    dataset: str
    """Name of the dataset; `list_datasets` lists them."""
    root: Annotated[Path, POSSIBLE] | None = None
    """Folder of the dataset, for datasets on disk; for published ones, the unpacked folder or the one that holds it."""
    file: Annotated[Path, POSSIBLE] | None = None
    """Table of a `manifest`: a row an image, as .csv, .tsv, .jsonl or .parquet; paths in it are relative to `root`, by
    default to the table's folder."""
    path_column: str = "path"
    """Column of a manifest with the paths of the images."""
    label_column: str = "label"
    """Column with the labels, of a manifest or of a dataset of the Hugging Face hub."""
    split_column: str = "split"
    """Column of a manifest with `train`, `test` or `val`; without such a column, `test_fraction` is held out."""
    group_column: str = "group"
    """Column of a manifest with what belongs together, as the photographs of one object; there need not be one."""
    name: str | None = None
    """Name of a dataset of the Hugging Face hub (`user/dataset`), or of a local folder of its form."""
    config_name: str | None = None
    """Configuration of a dataset of the hub that has several."""
    download: bool = False
    """Whether a published dataset that is not below `root` may be downloaded there, if that is possible."""
    check_counts: bool = True
    """Whether a published dataset has to have the published numbers of classes and images; refuses truncated copies."""

    class_fraction: Fraction = 1.0
    """Share of the classes, drawn without replacement, in training and test split (the paper's C:25%)."""
    train_images: PositiveInt | None = None
    """Number of training images to draw (the paper's N:400); None takes all."""
    train_fraction: Fraction = 1.0
    """Share of the training images to draw (the paper's N:15%); not together with `train_images`."""
    test_images: PositiveInt | None = None
    """Number of test images to draw; None takes all."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share held out as test split if the dataset has none."""
    sampling: Literal["stratified", "uniform"] = "stratified"
    """`uniform` draws as in the authors' code; `stratified` keeps the class shares, with at least one image a class."""
    sampling_seed: NonNegativeInt = 0
    """Seed of all draws of the sample."""
    group_by: Annotated[int | str | None, BeforeValidator(_grouping)] = None
    """What images belong together, as photographs of one object: folds and a test split that is held out never split a
    group. A number: the sub-folders of that level below the class folder (1: `ape/zoo/…` and `bee/zoo/…` are one
    group). A regular expression: its first group in the file's name. `column`: the column `group` of a manifest. An
    image without such a part is a group by itself."""
    validation: Literal["folds", "folder"] = "folds"
    """What scores are of: folds of the training images, or the dataset's own validation split, as val/ beside train/,
    which then is the only fold. The retraining is on both."""

    resize: Literal["squash", "short_side"] = "squash"
    """`squash` resizes to a square (the paper); `short_side` keeps the aspect ratio and cuts the centre square."""
    resize_px: Annotated[int, Field(gt=0, le=2 * MAX_SIZE_PX)] | None = None
    """Side at which images are decoded and stored; None is size_px / 0.875, the usual margin for crops."""
    size_px: Annotated[int, Field(gt=0, le=MAX_SIZE_PX)] = 224
    """Side of the network's input: in training a crop as `crop` says, in evaluation the centre crop."""
    crop: Crop = "random"
    """Training crops: `none` are central, `random` have a random position, `random_resized` a random position, area and
    aspect ratio, and are resized to `size_px`."""
    crop_area: Fraction = 0.35
    """Smallest area of a `random_resized` crop as a share of the stored image's; the largest is all of it."""
    crop_aspect: Annotated[float, Field(ge=1, le=10)] = 4 / 3
    """Largest aspect ratio of a `random_resized` crop, long side to short side, in either direction."""
    flip: bool = True
    """Whether training images are flipped horizontally at random."""
    color_jitter: Strength = 0.0
    """Strength s of a colour jitter: brightness, contrast and saturation by factors between 1 − s and 1 + s."""
    auto_augment: Literal["none", "rand_augment", "trivial_augment"] = "none"
    """Random operations on colours and geometry: RandAugment (two of them at one magnitude), or TrivialAugment (one, at
    a random magnitude). On a GPU each geometric one waits for the device."""
    auto_augment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Magnitude of the operations of `rand_augment`, from 0 (hardly anything) to 30."""
    erasing: Strength = 0.0
    """Probability that a rectangle of a training image is erased."""
    max_tokens: Annotated[int, Field(ge=3, le=512)] = 64
    """Largest number of tokens of a text, special ones included; longer texts are truncated. BERT has 512 positions. Of
    SST-5's sentences, four have more than 64 tokens."""

    @model_validator(mode="after")
    def _one_sample_size(self) -> Self:
        if self.train_images is not None and self.train_fraction != 1.0:
            raise ValueError("only one of train_images and train_fraction, got both")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.stored_px < self.size_px:
            raise ValueError(f"resize_px ≥ size_px, got resize_px={self.resize_px}, size_px={self.size_px}")
        return self

    @model_validator(mode="after")
    def _view_is_of_the_kind(self) -> Self:
        kind, other, foreign = ("texts", "images", IMAGE_VIEW) if self.has_texts else ("images", "texts", TEXT_VIEW)
        set_ones = [f"{name}={getattr(self, name)}" for name in foreign if getattr(self, name) != _default(name)]
        if set_ones:
            names = ", ".join(foreign)
            got = ", ".join(set_ones)
            raise ValueError(
                f"none of the keys for {other} ({names}) with {self.dataset}, which is of {kind}, got {got}"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_of_the_dataset(self) -> Self:
        known = KEYS_OF_DATASETS.get(self.dataset, ())
        foreign = dict.fromkeys(key for keys in KEYS_OF_DATASETS.values() for key in keys if key not in known)
        if set_ones := [f"{key}={getattr(self, key)}" for key in foreign if getattr(self, key) != _default(key)]:
            names, got = ", ".join(foreign), ", ".join(set_ones)
            raise ValueError(f"none of the keys of other datasets ({names}) with {self.dataset}, got {got}")
        return self

    @property
    def has_texts(self) -> bool:
        """Whether the examples are texts, not images."""
        return self.dataset in TEXT_DATASETS

    @property
    def stored_px(self) -> int:
        """Side of the decoded images, `resize_px` with its default filled in."""
        return self.resize_px if self.resize_px is not None else round(self.size_px / 0.875)


def _default(name: str) -> object:
    return DataConfig.model_fields[name].default
