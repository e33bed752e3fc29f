"""The configurations of a space: how many they are, and the values of each dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.experiment.alternatives import Branches, Condition
from tuner.experiment.dimensions import Choice, Dimension, Integer


def values_of(dimension: Dimension) -> Sequence[Any] | None:
    """Returns every value of the dimension; None if it is continuous."""
    match dimension:
        case Choice(choice=values):
            return values
        case Integer(int_=(low, high)):
            return range(low, high + 1)
        case _:
            return None


def num_configurations(dimensions: Mapping[str, Dimension], branches: Branches) -> float:
    """Number of configurations of a space; infinite if a dimension is continuous.

    >>> from tuner.experiment.alternatives import NO_BRANCHES
    >>> num_configurations({"data.crop": Choice(choice=(True, False))}, NO_BRANCHES)
    2
    """
    return _count(dimensions, branches, None)


def _count(dimensions: Mapping[str, Dimension], branches: Branches, condition: Condition | None) -> float:
    """Counts the combinations of the dimensions that have exactly this condition, and of those that depend on them."""
    count: float = 1
    for key, dimension in dimensions.items():
        if branches.conditions.get(key) == condition:
            if key in branches.alternatives:
                labels = branches.alternatives[key].fixed
                count *= sum(_count(dimensions, branches, (key, label)) for label in labels)
            else:
                values = values_of(dimension)
                count *= len(values) if values else math.inf
    return count
