"""Points of a search space, and the trial configurations at them.

A point maps the key of each dimension that exists in the trial to a value: `{"method.gamma_fe": 0.02}`. The key is the
dotted path of the leaf in a TrialConfig, but for dimensions within alternatives; see `tuner.experiment.alternatives`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from trainables.config import TrialConfig
from tuner.experiment.alternatives import NO_BRANCHES, Branches
from tuner.experiment.dimensions import Choice, Dimension
from tuner.experiment.tree import set_leaf

MAX_COMBINATIONS = 256
"""Combinations of choices that are checked beforehand; an invalid one beyond them fails when its trial starts."""


def config_at(
    fixed: Mapping[str, Any], point: Mapping[str, Any], seed: int = 0, branches: Branches = NO_BRANCHES
) -> TrialConfig:
    """Builds the configuration of the fixed tree `fixed` with the values of `point`. Raises pydantic's ValidationError.

    Every configuration of a search is made here: of proposals, boundary values and probes.
    """
    tree: dict[str, Any] = {**copy.deepcopy(dict(fixed)), "seed": seed}
    for path, value in branches.leaves(point).items():
        set_leaf(tree, path, value)
    return TrialConfig.model_validate(tree)


def boundary_points(dimensions: Mapping[str, Dimension], branches: Branches = NO_BRANCHES) -> Iterator[dict[str, Any]]:
    """Yields the points at which a space can be invalid: every boundary value of every dimension, the others at their
    first value, and the combinations of choices."""
    yield branches.completed(dimensions, {})
    for key, dimension in dimensions.items():
        for value in dimension.boundary_values()[1:]:
            yield branches.completed(dimensions, {**branches.required(key), key: value})
    choices = {key: dimension.choice for key, dimension in dimensions.items() if isinstance(dimension, Choice)}
    if len(choices) > 1:
        for point in itertools.islice(branches.grid(choices), MAX_COMBINATIONS):
            yield branches.completed(dimensions, point)
