"""Registry of the datasets: one file, one function that lists the dataset, one line here; and those of plugins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainables.data.config import DataConfig
from trainables.data.datasets.class_names import class_name_problems
from trainables.data.datasets.cub_200_2011 import cub_200_2011
from trainables.data.datasets.digits import digits
from trainables.data.datasets.fgvc_aircraft import fgvc_aircraft
from trainables.data.datasets.food_101 import food_101
from trainables.data.datasets.hugging_face import hugging_face
from trainables.data.datasets.imagefolder import imagefolder
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.manifest import manifest
from trainables.data.datasets.mit_indoor_67 import mit_indoor_67
from trainables.data.datasets.sst5 import sst5
from trainables.data.datasets.stanford_cars import stanford_cars
from trainables.errors import BadInput, Problem, did_you_mean
from trainables.registries import Registry
from trainables.summaries import first_sentence

DATASETS: Registry[Callable[[DataConfig], Dataset]] = Registry(
    "datasets",
    {
        "digits": digits,
        "imagefolder": imagefolder,
        "manifest": manifest,
        "hugging_face": hugging_face,
        "cub_200_2011": cub_200_2011,
        "stanford_cars": stanford_cars,
        "fgvc_aircraft": fgvc_aircraft,
        "mit_indoor_67": mit_indoor_67,
        "food_101": food_101,
        "sst5": sst5,
    },
)

DOWNLOADABLE = ("fgvc_aircraft", "food_101")
"""Datasets that torchvision can download; those of the Hugging Face hub are fetched by its client."""


def list_datasets() -> dict[str, str]:
    """The datasets by name, each with a one-line summary.

    >>> sorted(list_datasets())[:3]
    ['cub_200_2011', 'digits', 'fgvc_aircraft']
    """
    return {name: first_sentence(dataset) for name, dataset in DATASETS.items()}


def open_dataset(config: DataConfig) -> Dataset:
    """Lists the configured dataset without decoding it. Raises BadInput if it cannot be listed.

    >>> dataset = open_dataset(DataConfig(dataset="digits"))
    >>> len(dataset.train), len(dataset.class_names), dataset.test
    (1797, 10, None)
    """
    if config.dataset not in DATASETS:
        got = f"{config.dataset!r}{did_you_mean(config.dataset, DATASETS)}"
        raise BadInput(Problem("dataset", f"one of {', '.join(DATASETS)}", got))
    problems = _download_problems(config)
    try:
        dataset = DATASETS[config.dataset](config)
    except BadInput as bad:
        raise BadInput([*problems, *bad.problems]) from bad
    return replace(dataset, problems=(*problems, *dataset.problems, *class_name_problems(dataset.class_names)))


def _download_problems(config: DataConfig) -> list[Problem]:
    *first, last = known = (*DOWNLOADABLE, "hugging_face")
    if not config.download or config.dataset in known:
        return []
    expected = f"false for dataset {config.dataset}: only {', '.join(first)} and {last} can be downloaded"
    return [Problem("download", expected, "true")]
