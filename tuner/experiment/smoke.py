"""Overrides of `--smoke`: the same path through an experiment with few images, few steps and few trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainables.data.config import DataConfig
from trainables.data.loading import check_data
from tuner.experiment.checks import boundary_configs
from tuner.experiment.search_experiment import SearchExperiment

SMOKE: dict[str, Any] = {
    "search.trials": 2,
    "search.folds": 2,
    "training.num_steps": 4,
    "training.batch_size": 8,
    "retrain.seeds": 1,
}
"""What `--smoke` makes of an experiment, so that its whole path runs in under a minute."""


SMOKE_TRAIN_IMAGES_PER_CLASS = 3


SMOKE_TEST_IMAGES = 32


def smoke_overrides(space: SearchExperiment) -> dict[str, Any]:
    """Leaves that make a tiny run of `space`: same path, few and short trials, few images."""
    data = DataConfig.model_validate(next(boundary_configs(space)).data)
    summary = check_data(data, num_folds=2)
    names = {"name": f"{space.name[:90]}-smoke", "tracking.registered_model": f"{space.model_name[:90]}-smoke"}
    overrides = SMOKE | names | {"search.first_points": _points_without(space, SMOKE)}
    num_train = SMOKE_TRAIN_IMAGES_PER_CLASS * len(summary.class_names)
    if num_train < summary.num_train:
        overrides |= {"data.train_images": num_train, "data.train_fraction": 1.0}
    if summary.num_test > SMOKE_TEST_IMAGES:
        overrides["data.test_images"] = max(SMOKE_TEST_IMAGES, len(summary.class_names))
    return overrides


def _points_without(space: SearchExperiment, leaves: Iterable[str]) -> list[dict[str, Any]]:
    """The first points, less the dimensions that become fixed."""
    gone = {*leaves, *(space.short_names.get(leaf, leaf) for leaf in leaves)}
    return [{key: value for key, value in point.items() if key not in gone} for point in space.search.first_points]
