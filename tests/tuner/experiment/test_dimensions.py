from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.errors import BadInput
from tuner.experiment.dimensions import (
    DIMENSIONS,
    Choice,
    Dimension,
    Integer,
    LogUniform,
    Uniform,
    contains,
    parse_dimension,
    spell,
)

GOOD: list[tuple[Dimension, tuple[Any, ...]]] = [
    (Uniform(uniform=(-1, 2)), (-1, 2)),
    (LogUniform(log_uniform=(1e-3, 1)), (1e-3, 1)),
    (Integer.model_validate({"int": [0, 3]}), (0, 3)),
    (Choice(choice=("sgd", True, None, 3)), ("sgd", True, None, 3)),
]


@pytest.mark.parametrize(("dimension", "ends"), GOOD)
def test_ends_are_within_and_are_tried(dimension: Dimension, ends: tuple[Any, ...]) -> None:
    assert dimension.bounds() == ends
    assert set(ends) <= set(dimension.boundary_values())
    assert all(contains(dimension, probe) for probe in dimension.boundary_values())


@pytest.mark.parametrize("dimension", [Uniform(uniform=(8, 64)), LogUniform(log_uniform=(8, 64))])
def test_a_range_is_tried_at_a_point_that_is_no_integer(dimension: Dimension) -> None:
    *_, inside = dimension.boundary_values()
    assert isinstance(inside, float)
    assert not inside.is_integer()


@pytest.mark.parametrize(
    ("spelt", "message"),
    [
        ({"uniform": [2, 1]}, "low below high"),
        ({"uniform": [1, 1]}, "low below high"),
        ({"log_uniform": [0, 1]}, "low above 0"),
        ({"log_uniform": [-1, 1]}, "low above 0"),
        ({"uniform": [0, float("inf")]}, "finite"),
        ({"uniform": [0, float("nan")]}, "finite"),
        ({"uniform": [0]}, "Field required"),
        ({"uniform": [0, 1, 2]}, "at most 2 items"),
        ({"uniform": ["low", 1]}, "valid number"),
        ({"int": [0.5, 3]}, "valid integer"),
        ({"int": [1, True]}, "valid integer"),
        ({"int": [3, 3]}, "low below high"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": ["a", "a"]}, "values that differ"),
        ({"choice": [8, 8.0]}, "values that differ"),
        ({"choice": [True, 1]}, "values that differ"),
        ({"choice": [0.0, -0.0]}, "values that differ"),
        ({"uniform": [0, 1], "step": 0.1}, "Extra inputs"),
    ],
)
def test_refuses_what_is_no_range(spelt: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DIMENSIONS[next(iter(spelt))].model_validate(spelt)


@pytest.mark.parametrize("leaf", [0.1, None, "uniform", [0, 1], {}, {"name": "l2"}, {"a": {"b": [1]}}])
def test_what_is_no_dimension_is_none(leaf: Any) -> None:
    assert parse_dimension(leaf) is None


@pytest.mark.parametrize(
    ("spelt", "message"),
    [
        ({"uniform": [1, 0]}, "m.a: expected `uniform: [low, high]` with finite numbers low < high, got [1, 0]"),
        ({"uniform": 3}, "m.a: expected `uniform: [low, high]` with finite numbers low < high, got 3"),
        (
            {"log_uniform": [0, 1]},
            "m.a: expected `log_uniform: [low, high]` with finite numbers 0 < low < high, got [0, 1]",
        ),
        ({"int": [0.5, 3]}, "m.a: expected `int: [low, high]` with whole numbers low < high, got [0.5, 3]"),
        ({"choice": []}, "m.a: expected `choice: [a, b, …]` with at least one value and no value twice, got []"),
        (
            {"unifrom": [0, 1]},
            "m.a: expected a dimension of kind uniform, log_uniform, int, choice, "
            "got 'unifrom' (did you mean 'uniform'?)",
        ),
    ],
)
def test_an_invalid_dimension_is_one_problem(spelt: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as bad:
        parse_dimension(spelt, "m.a")
    assert str(bad.value) == message


@pytest.mark.parametrize(
    ("spelt", "value", "inside"),
    [
        ({"uniform": [0, 1]}, 0.5, True),
        ({"uniform": [0, 1]}, 1.5, False),
        ({"uniform": [0, 1]}, True, False),
        ({"uniform": [0, 1]}, "0.5", False),
        ({"log_uniform": [0.1, 1]}, 0.05, False),
        ({"int": [1, 3]}, 2, True),
        ({"int": [1, 3]}, 2.0, False),
        ({"int": [1, 3]}, True, False),
        ({"choice": [1, 2]}, True, False),
        ({"choice": [1, 2]}, 2, True),
        ({"choice": [None, "a"]}, None, True),
        ({"choice": ["a"]}, "b", False),
    ],
)
def test_contains(spelt: dict[str, Any], value: Any, inside: bool) -> None:
    assert contains(DIMENSIONS[next(iter(spelt))].model_validate(spelt), value) is inside


def test_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Uniform(uniform=(0, 1)).uniform = (0, 2)  # type: ignore[misc]


def test_spell() -> None:
    assert spell(LogUniform(log_uniform=(0.01, 0.1))) == "log_uniform [0.01, 0.1]"
    assert spell(Integer.model_validate({"int": [1, 3]})) == "int [1, 3]"
