"""scikit-learn's handwritten digits, which are part of the library and need no download."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.images import Ints, Pixels
from trainables.errors import Problem

INK_LEVELS = 16
"""Largest value of a pixel in scikit-learn's images."""


def digits(config: DataConfig) -> Dataset:
    """Handwritten digits of scikit-learn: 1,797 grey 8×8 images of ten classes, without a test split; no download."""
    pixels, labels = _load()
    listing = Listing(labels, [f"digits/{i}" for i in range(len(labels))], lambda i: Image.fromarray(pixels[i]))
    return Dataset(tuple("0123456789"), listing, problems=_root_problems(config))


def _root_problems(config: DataConfig) -> tuple[Problem, ...]:
    if config.root is None:
        return ()
    return (Problem("root", "no root for dataset digits, which comes with scikit-learn", f"'{config.root}'"),)


@lru_cache(maxsize=1)
def _load() -> tuple[Pixels, Ints]:
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / INK_LEVELS)).astype(np.uint8)
    return grey, bunch.target.astype(np.int64)
