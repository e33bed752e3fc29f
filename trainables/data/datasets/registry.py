"""The datasets by name. A new one is a function that lists it, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainables.data.config import DataConfig
from trainables.data.datasets.cub_200_2011 import cub_200_2011
from trainables.data.datasets.digits import digits
from trainables.data.datasets.fgvc_aircraft import fgvc_aircraft
from trainables.data.datasets.food_101 import food_101
from trainables.data.datasets.imagefolder import imagefolder
from trainables.data.datasets.listing import Source
from trainables.data.datasets.mit_indoor_67 import mit_indoor_67
from trainables.data.datasets.sst5 import sst5
from trainables.data.datasets.stanford_cars import stanford_cars
from trainables.errors import BadInput, Problem, nearest

DATASETS: dict[str, Callable[[DataConfig], Source]] = {
    "digits": digits,
    "imagefolder": imagefolder,
    "cub_200_2011": cub_200_2011,
    "stanford_cars": stanford_cars,
    "fgvc_aircraft": fgvc_aircraft,
    "mit_indoor_67": mit_indoor_67,
    "food_101": food_101,
    "sst5": sst5,
}

DOWNLOADABLE = ("fgvc_aircraft", "food_101")


def open_source(config: DataConfig) -> Source:
    """Lists the configured dataset without decoding it. Raises BadInput where there is nothing to list."""
    if config.dataset not in DATASETS:
        similar = nearest(config.dataset, DATASETS)
        hint = f" (did you mean {' or '.join(similar)}?)" if similar else ""
        raise BadInput(Problem("dataset", f"must be one of {', '.join(DATASETS)}", f"{config.dataset!r}{hint}"))
    problems = _download_problems(config)
    try:
        source = DATASETS[config.dataset](config)
    except BadInput as bad:
        raise BadInput([*problems, *bad.problems]) from bad
    return replace(source, problems=(*problems, *source.problems))


def _download_problems(config: DataConfig) -> list[Problem]:
    if not config.download or config.dataset in DOWNLOADABLE:
        return []
    expected = f"must be false for dataset {config.dataset}; only {' and '.join(DOWNLOADABLE)} can be downloaded"
    return [Problem("download", expected, "true")]
