from __future__ import annotations

import math
from typing import Any

import pytest

from tuner.experiment.alternatives import NO_BRANCHES
from tuner.experiment.dimensions import DIMENSIONS, Dimension
from tuner.scheduling.configurations import num_configurations, values_of


def dimension(spelt: dict[str, Any]) -> Dimension:
    return DIMENSIONS[next(iter(spelt))].model_validate(spelt)


@pytest.mark.parametrize(
    ("spelt", "values"),
    [({"choice": ["a", "b"]}, ["a", "b"]), ({"int": [2, 4]}, [2, 3, 4]), ({"uniform": [0, 1]}, None)],
)
def test_the_values_of_a_dimension(spelt: dict[str, Any], values: list[Any] | None) -> None:
    found = values_of(dimension(spelt))
    assert (None if found is None else list(found)) == values


def test_a_space_has_the_product_of_them() -> None:
    finite = {"a": dimension({"choice": ["x", "y"]}), "b": dimension({"int": [1, 3]})}
    assert num_configurations(finite, NO_BRANCHES) == 6
    assert num_configurations({**finite, "c": dimension({"log_uniform": [0.1, 1]})}, NO_BRANCHES) == math.inf
