"""The experiment that these tests search: thirty small photos of digits, 3 trials × 2 folds × 2 steps."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

from tests.tuner import tiny

SPACE: dict[str, Any] = {
    "search": {
        "trials": 3,
        "folds": 2,
        "repeats": 1,
        "baselines": [],
        "concurrency": 1,
        "first_points": [{"gamma_fe": 0.02}],
    },
    "resources": {"cpus": 1, "gpus": 0.25},
    "retrain": {"seeds": 2},
}
COUNTS = {"train": 3, "test": 2}
"""Photos of each of the ten digits."""


def write_photos(folder: Path) -> Path:
    """Writes a folder of classes: `train/7/0.png`, of 32 × 32 pixels."""
    digits = load_digits()
    for label in range(10):
        images = iter(digits.images[digits.target == label])
        for split, count in COUNTS.items():
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray((next(images) * 15).astype("uint8"))
                image.resize((32, 32)).convert("RGB").save(folder / split / str(label) / f"{number}.png")
    return folder


def write_space(folder: Path, photos: Path, **changes: Any) -> Path:
    """Writes the experiment as `tiny.yaml`; `changes` by dotted path, with `__` for the dots."""
    data = {"dataset": "imagefolder", "root": str(photos), "size_px": 32, "flip": False}
    return tiny.write_yaml(folder, **deepcopy(SPACE), data=data, **changes)
