"""The `data` section of an experiment: dataset, sample, and preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from trainables.frozen import Frozen
from trainables.paths import POSSIBLE

Fraction = Annotated[float, Field(gt=0, le=1)]

MAX_SIZE_PX = 4096
"""Largest side of a network's input: no published network has a larger one, and an image then takes 66 MB decoded."""

TEXT_DATASETS = frozenset({"sst5"})
IMAGE_VIEW = ("resize", "resize_px", "size_px", "crop", "flip")
TEXT_VIEW = ("max_tokens",)


class DataConfig(Frozen):
    """Dataset, sample and view.

    The *sample* is drawn by `sampling_seed` alone, so that repeats with other training seeds have the same images. The
    *view* (`size_px`, `crop`, `flip`) is applied to each batch of images, which were decoded once at `resize_px`. A
    dataset of texts is sampled by the same keys, in which a text counts as an image; its view is `max_tokens`.

    >>> DataConfig(dataset="digits", size_px=28, train_images=400).stored_px
    32
    """

    dataset: str
    """Name of the dataset; `list_datasets` lists them."""
    root: Annotated[Path, POSSIBLE] | None = None
    """Folder of the dataset, for datasets on disk; for published ones, the unpacked folder or the one that holds it."""
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

    resize: Literal["squash", "short_side"] = "squash"
    """`squash` resizes to a square (the paper); `short_side` keeps the aspect ratio and cuts the centre square."""
    resize_px: Annotated[int, Field(gt=0, le=2 * MAX_SIZE_PX)] | None = None
    """Side at which images are decoded and stored; None is size_px / 0.875, the usual margin for crops."""
    size_px: Annotated[int, Field(gt=0, le=MAX_SIZE_PX)] = 224
    """Side of the network's input: random crops in training (if `crop`), the centre crop in evaluation."""
    crop: bool = True
    """Whether training crops are random instead of central."""
    flip: bool = True
    """Whether training images are flipped horizontally at random."""
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
