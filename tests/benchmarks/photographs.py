"""A few pictures in class folders, which a linear model tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "red": (200, 60, 30)}


def written_pictures(root: Path, train: int = 6, test: int = 3) -> Path:
    """Writes so many noisy pictures of each colour to `root`/train and `root`/test."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-30, 30, (40, 48, 3))
                Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root
