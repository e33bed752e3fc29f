"""The datasets by name. A new one is a function that lists it, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from trainables.data.config import DataConfig
from trainables.data.digits import digits
from trainables.data.imagefolder import imagefolder
from trainables.data.source import Source
from trainables.errors import BadInput, Problem, nearest

DATASETS: dict[str, Callable[[DataConfig], Source]] = {
    "digits": digits,
    "imagefolder": imagefolder,
}


def open_source(config: DataConfig) -> Source:
    """Lists the configured dataset without decoding it. Raises BadInput where there is nothing to list."""
    if config.dataset not in DATASETS:
        similar = nearest(config.dataset, DATASETS)
        hint = f" (did you mean {' or '.join(similar)}?)" if similar else ""
        raise BadInput(Problem("dataset", f"must be one of {', '.join(DATASETS)}", f"{config.dataset!r}{hint}"))
    return DATASETS[config.dataset](config)
