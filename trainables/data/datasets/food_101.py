"""Food-101 (Bossard et al., ECCV 2014)."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import Food101

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.published import Published, complete_folder, dataset_of, download, listed_by, reading

FOOD = Published(
    folder="food-101",
    files=("images", "meta/train.json", "meta/test.json"),
    num_classes=101,
    num_train=75_750,
    num_test=25_250,
    where="data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
)


def food_101(config: DataConfig) -> Dataset:
    """Food-101 (Bossard et al., 2014): 101,000 photographs of 101 dishes; can be downloaded.

    The training labels are noisy by design, the test labels are not. At 256 pixels the decoded training split takes
    15 GB.
    """
    if config.download:
        download(config, FOOD, Food101)
    folder = complete_folder(config, FOOD)
    with reading(folder, FOOD):
        train, test = (Food101(folder.parent, split, loader=Path) for split in ("train", "test"))
        return dataset_of(config, FOOD, train.classes, listed_by(train), listed_by(test))
