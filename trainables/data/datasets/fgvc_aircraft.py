"""FGVC-Aircraft (Maji et al., 2013, https://arxiv.org/abs/1306.5151)."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import FGVCAircraft

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.published import Published, complete_folder, dataset_of, download, listed_by, reading

AIRCRAFT = Published(
    folder="fgvc-aircraft-2013b",
    files=(
        "data/images",
        "data/variants.txt",
        "data/images_variant_trainval.txt",
        "data/images_variant_test.txt",
    ),
    num_classes=100,
    num_train=6667,
    num_test=3333,
    where="www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft",
)


def fgvc_aircraft(config: DataConfig) -> Dataset:
    """FGVC-Aircraft (Maji et al., 2013): 10,000 photographs of 100 variants of aircraft; can be downloaded.

    Trains on `trainval`, as in the SMILE paper (by its count). The class `F/A-18` is named `F-A-18`.
    """
    if config.download:
        download(config, AIRCRAFT, FGVCAircraft)
    folder = complete_folder(config, AIRCRAFT)
    with reading(folder, AIRCRAFT):
        train, test = (FGVCAircraft(folder.parent, split, loader=Path) for split in ("trainval", "test"))
        return dataset_of(config, AIRCRAFT, train.classes, listed_by(train), listed_by(test))
