"""Small datasets on disk, and the real photographs where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import decoding
from trainables.data.cache import cached
from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Listing
from trainables.data.decoding import Resize
from trainables.data.images import LabelledImages, Pixels
from trainables.seeding import rng_for

MakeFolder = Callable[[dict[str, int]], Path]

SIDE = 8
"""Side of the decoded images of `photos` and `fruit`."""


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the entries of the cache, for this test alone."""
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The images that were decoded, in any order."""
    images: list[Image.Image] = []

    def spy(image: Image.Image, side: int, resize: Resize) -> Pixels:
        images.append(image)
        return decode(image, side, resize)

    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", spy)
    return images


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return photos(tmp_path, 3)


def photos(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    found = [folder / f"{first_seed + i}.png" for i in range(count)]
    for i, path in enumerate(found):
        photo(first_seed + i).save(path)
    return found


def listing(paths: Sequence[Path]) -> Listing:
    labels = np.zeros(len(paths), dtype=np.int64)
    return Listing(labels, [str(p) for p in paths], lambda i: Image.open(paths[i]), in_files=True)


def pixels_of(paths: Sequence[Path], side: int = SIDE) -> Pixels:
    kept = cached(listing(paths), side, "squash")
    assert kept is not None
    return kept[1]


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fruit(root: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"dataset": "imagefolder", "root": root, "size_px": SIDE, **fields})


LOAD_PHOTOS = """
import resource, sys
import numpy as np
from PIL import Image
from trainables.data import cache
from trainables.data.datasets.listing import Listing

def load(count):
    names = [sys.argv[1 + i % 3] for i in range(count)]
    listing = Listing(np.zeros(count, dtype=np.int64), names, lambda i: Image.open(names[i]), in_files=True)
    return cache.cached(listing, 148, "squash")[1]

"""
"""Program with `load(count)`, which loads that many of the photographs in its arguments through the cache."""
