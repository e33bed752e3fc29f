"""Baselines of a search: configurations that the best trial is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.errors import BadInput, Problem
from trainables.training.config import TrainingConfig
from tuner.experiment.dimensions import Choice, Dimension, Integer, LogUniform, Uniform, contains
from tuner.experiment.points import config_at
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import Baseline
from tuner.messages.validation import problems_from_pydantic

METHODS: dict[Baseline, dict[str, Any]] = {
    "linear_probe": {"name": "feature_extraction", "backbone_mode": "eval"},
    "fine_tuning": {"name": "l2"},
}
TRAINING: dict[Baseline, dict[str, Any]] = {
    "linear_probe": {"num_steps": 0, "num_epochs": None, "head_init": "probe", "compile": "none"},
    "fine_tuning": {},
}
"""Leaves of `training` that a baseline replaces."""


def baseline_config(space: SearchExperiment, name: Baseline) -> TrialConfig:
    """Builds the configuration of a baseline: a method of its own with the data, backbone and training of `space`.

    `linear_probe` is logistic regression on the features of the pre-trained network, `fine_tuning` plain fine-tuning
    with as many steps as the trials. A searched leaf has the value of `typical_point`.

    Raises:
        BadInput: if there is no such baseline of the space.

    >>> from pathlib import Path
    >>> from tuner.experiment.search_experiment import load_experiment
    >>> config = baseline_config(load_experiment(Path("search_spaces/smile.yaml")), "linear_probe")
    >>> config.method.name, config.training.num_steps
    ('feature_extraction', 0)
    """
    try:
        typical = space.trial_config(typical_point(space))
        if name == "linear_probe" and not typical.backbone.pretrained and typical.backbone.checkpoint is None:
            raise BadInput(Problem("", "a pre-trained backbone", "random weights"))
        tree = typical.model_dump(mode="json")
        tree["method"] = METHODS[name]
        tree["training"] |= TRAINING[name]
        config = TrialConfig.model_validate(tree)
    except ValidationError as error:
        raise BadInput(problems_from_pydantic(error, TrialConfig)) from None
    if not space.dimensions and config == typical:
        raise BadInput(Problem("", "another configuration than the only trial's", "the same"))
    return config


def baseline_configs(space: SearchExperiment) -> dict[Baseline, TrialConfig | BadInput]:
    """Builds the configuration of each of `search.baselines`; the error in place of one that cannot be built."""
    configs: dict[Baseline, TrialConfig | BadInput] = {}
    for name in space.search.baselines:
        try:
            configs[name] = baseline_config(space, name)
        except BadInput as bad:
            configs[name] = bad
    return configs


def config_of_leaves(leaves: Mapping[str, Any]) -> TrialConfig:
    """Builds the configuration that `leaves` describe, every leaf of a TrialConfig by dotted path."""
    return config_at({}, leaves)


def typical_point(space: SearchExperiment) -> dict[str, Any]:
    """Returns the point of the space at which the baselines are trained: an ordinary training.

    A searched leaf of `training` has its default value, if that is in its range; of alternatives in `training` it is
    the one that differs from the defaults in the fewest leaves. Any other dimension has the value of the first of
    `search.first_points` that names it, else the middle of its range.
    """
    point: dict[str, Any] = {}
    for key, dimension in space.dimensions.items():
        if space.branches.is_active(key, point):
            point[key] = _typical(space, key, dimension)
    return point


def _typical(space: SearchExperiment, key: str, dimension: Dimension) -> Any:
    section, _, leaf = space.branches.path_of(key).partition(".")
    defaults = TrainingConfig().model_dump(mode="json") if section == "training" else {}
    if defaults and key in space.branches.alternatives:
        fixed = space.branches.alternatives[key].fixed
        return min(fixed, key=lambda label: _num_unusual(fixed[label], defaults))
    if leaf in defaults and contains(dimension, defaults[leaf]):
        return defaults[leaf]
    given = (point[key] for point in space.search.first_points if key in point)
    return next(given, middle(dimension))


def _num_unusual(leaves: Mapping[str, Any], defaults: Mapping[str, Any]) -> int:
    """Number of leaves of `training`, by dotted path, that differ from the defaults."""
    return sum(value != defaults.get(path.partition(".")[2]) for path, value in leaves.items())


def middle(dimension: Dimension) -> Any:
    """Returns the middle of a range, the geometric one of `log_uniform`; of a choice the first value.

    >>> middle(LogUniform(log_uniform=(0.01, 1.0)))
    0.1
    """
    match dimension:
        case Uniform(uniform=(low, high)):
            return (low + high) / 2
        case LogUniform(log_uniform=(low, high)):
            return math.sqrt(low * high)
        case Integer(int_=(low, high)):
            return (low + high) // 2
        case Choice(choice=values):
            return values[0]
