"""Stanford Cars (Krause et al., 3dRR 2013)."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import StanfordCars

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.published import Published, complete_folder, dataset_of, listed_by, reading

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


def stanford_cars(config: DataConfig) -> Dataset:
    """Stanford Cars (Krause et al., 2013): 16,185 photographs of 196 makes, models and years of cars.

    The layout is that of torchvision, in the folder `stanford_cars`; the original archives have no common folder.
    """
    folder = complete_folder(config, CARS)
    with reading(folder, CARS):
        train, test = (StanfordCars(folder.parent, split, loader=Path) for split in ("train", "test"))
        return dataset_of(config, CARS, train.classes, listed_by(train), listed_by(test))
