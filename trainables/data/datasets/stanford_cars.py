"""Stanford Cars (Krause et al., 2013): 196 makes, models and years."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import StanfordCars

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Source
from trainables.data.datasets.published import Published, complete_folder, listed_by, reading, source_of

CARS = Published(
    folder="stanford_cars",
    files=(
        "cars_train",
        "cars_test",
        "devkit/cars_train_annos.mat",
        "devkit/cars_meta.mat",
        "cars_test_annos_withlabels.mat",
    ),
    num_classes=196,
    num_train=8144,
    num_test=8041,
    where="copies that issue 7545 of github.com/pytorch/vision points to, since the dataset's own page is gone",
)


def stanford_cars(config: DataConfig) -> Source:
    """Stanford Cars (Krause et al., 2013): 16,185 photographs of 196 makes, models and years of cars.

    The layout is torchvision's, in a folder of that name: the original came as several archives without one.
    """
    folder = complete_folder(config, CARS)
    with reading(folder, CARS):
        train, test = (StanfordCars(folder.parent, split, loader=Path) for split in ("train", "test"))
        return source_of(config, CARS, train.classes, listed_by(train), listed_by(test))
