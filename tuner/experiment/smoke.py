"""Overrides of `--smoke`: the same path through an experiment with few images, few steps and few trials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from trainables.data.loading import check_data
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
    """Returns the overrides, by dotted path, that make a tiny run of `space`. Raises BadInput where it has no data."""
    data = next(space.boundary_configs()).data
    summary = check_data(data, num_folds=2)
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


def _points_without(space: SearchExperiment, paths: Collection[str]) -> list[dict[str, Any]]:
    """Returns the first points without the dimensions `paths`, which become fixed."""
    path_of = space.branches.path_of
    return [{key: value for key, value in p.items() if path_of(key) not in paths} for p in space.search.first_points]
