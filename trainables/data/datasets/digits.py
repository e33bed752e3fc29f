"""scikit-learn's handwritten digits, which are part of the library and need no download."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

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
    """Reads pixels N×8×8 and labels N from scikit-learn's file, as `sklearn.datasets.load_digits` does.

    Importing scikit-learn would take a second and a half, in the driver and in each worker.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    table = np.loadtxt(file, delimiter=",", dtype=np.int64)  # a row: 64 pixels, label
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    return np.rint(images * (255 / INK_LEVELS)).astype(np.uint8), labels
