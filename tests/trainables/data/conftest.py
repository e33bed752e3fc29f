"""Small datasets on disk, and the real photographs where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.images import LabelledImages
from trainables.seeding import rng_for

MakeFolder = Callable[[dict[str, int]], Path]


def photo(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    """A smooth random RGB picture, which survives JPEG."""
    small = rng_for(seed, "photo").integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """make_folder({"train/lime": 3}) writes three JPEGs into <root>/train/lime and returns <root>."""

    def make(counts: dict[str, int]) -> Path:
        root = tmp_path / "fruit"
        for number, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True)
            for i in range(count):
                photo(100 * number + i).save(root / folder / f"{i}.jpg", quality=95)
        return root

    return make


@pytest.fixture
def images() -> LabelledImages:
    """Thirty random images of 20×20 in three classes, read-only as they come out of shared memory."""
    rng = rng_for(0, "images")
    pixels = rng.integers(0, 256, (30, 20, 20, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    return LabelledImages.of(pixels, np.arange(30) % 3, ("a", "b", "c"))


@pytest.fixture(scope="session")
def grocery() -> Path:
    """Real photographs, 28 classes; not part of the repository."""
    beside = Path(__file__).parents[4] / "shared" / "data" / "grocery"
    root = Path(os.environ.get("GROCERY_ROOT", beside))
    if not root.is_dir():
        pytest.skip(f"no photographs at {root}; set GROCERY_ROOT")
    return root
