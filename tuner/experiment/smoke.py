"""Overrides of `--smoke`: the same path through an experiment with few images, few steps and few trials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from trainables.data.config import DataConfig
from trainables.data.loading import DataSummary, check_data
from trainables.errors import BadInput
from tuner.experiment.search_experiment import SearchExperiment

SMOKE: dict[str, Any] = {
    "search.trials": 2,
    "search.folds": 2,
    "search.repeats": 1,
    "search.minutes": None,
    "training.num_steps": 4,
    "training.num_epochs": None,
    "training.batch_size": 8,
    "retrain.seeds": 1,
}
"""Leaves that `--smoke` overrides, so that the whole path runs in under a minute."""

SMOKE_TRAIN_IMAGES_PER_CLASS = 3
SMOKE_TEST_IMAGES = 32


def smoke_overrides(space: SearchExperiment) -> dict[str, Any]:
    """Returns the overrides, by dotted path, that make a tiny run of `space`.

    Raises:
        BadInput: with the file and the keys of its section `data`, where there are no such data.
    """
    data = next(space.boundary_configs()).data
    summary = data_summary(data, 2, space.file)
    names = {"name": f"{space.name[:90]}-smoke", "tracking.registered_model": f"{space.model_name[:90]}-smoke"}
    overrides = SMOKE | names | {"search.first_points": _points_without(space, SMOKE)}
    if data.group_by is not None:
        overrides["data.group_by"] = None  # so few images may be of one group
    if data.validation == "folder":
        overrides["search.folds"] = 1
    num_train = SMOKE_TRAIN_IMAGES_PER_CLASS * len(summary.class_names)
    if num_train < summary.num_train:
        overrides |= {"data.train_images": num_train, "data.train_fraction": 1.0}
    if summary.num_test > SMOKE_TEST_IMAGES:
        overrides["data.test_images"] = max(SMOKE_TEST_IMAGES, len(summary.class_names))
    return overrides


def data_summary(data: DataConfig, num_folds: int | None, file: str) -> DataSummary:
    """Returns the summary of `check_data`. Raises BadInput with the section and the experiment's file."""
    try:
        return check_data(data, num_folds)
    except BadInput as bad:
        raise bad.under("data").in_file(file) from None


def _points_without(space: SearchExperiment, paths: Collection[str]) -> list[dict[str, Any]]:
    """Returns the first points without the dimensions `paths`, which become fixed."""
    path_of = space.branches.path_of
    return [{key: value for key, value in p.items() if path_of(key) not in paths} for p in space.search.first_points]
