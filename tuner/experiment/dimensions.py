"""Dimensions of a search: what a leaf of the experiment may be instead of a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, StrictInt, ValidationError, model_validator

from trainables.errors import BadInput, Problem, did_you_mean
from trainables.frozen import Frozen
from tuner.messages.wording import shown

Scalar = bool | int | float | str | None
_Exact = Annotated[StrictInt, Field(ge=-(2**53), le=2**53)]
"""Whole number that a float can be, too, as which the sampler draws it."""

GOLDEN = 0.6180339887498949
"""Position of the value tried between the bounds; no round number, so that a leaf of integers refuses it."""


class Uniform(Frozen):
    """`{uniform: [low, high]}`: a float, uniformly distributed."""

    grammar: ClassVar[str] = "`uniform: [low, high]` with finite numbers low < high"
    uniform: tuple[float, float]

    @model_validator(mode="after")
    def _range(self) -> Self:
        _low_below_high(self.uniform)
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """Returns the least and the greatest value."""
        return self.uniform

    def boundary_values(self) -> tuple[Scalar, ...]:
        """Returns the values at which the range can be invalid: its bounds, and one between them."""
        low, high = self.uniform
        return (low, high, low + GOLDEN * (high - low))


class LogUniform(Frozen):
    """`{log_uniform: [low, high]}`: a float whose logarithm is uniformly distributed."""

    grammar: ClassVar[str] = "`log_uniform: [low, high]` with finite numbers 0 < low < high"
    log_uniform: tuple[float, float]

    @model_validator(mode="after")
    def _range(self) -> Self:
        _low_below_high(self.log_uniform)
        if self.log_uniform[0] <= 0:
            raise ValueError(f"low above 0, got {self.log_uniform[0]}")
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """Returns the least and the greatest value."""
        return self.log_uniform

    def boundary_values(self) -> tuple[Scalar, ...]:
        """Returns the values at which the range can be invalid: its bounds, and one between them."""
        low, high = self.log_uniform
        return (low, high, low * (high / low) ** GOLDEN)


class Integer(Frozen):
    """`{int: [low, high]}`: an integer, both bounds included."""

    grammar: ClassVar[str] = "`int: [low, high]` with whole numbers low < high"
    int_: Annotated[tuple[_Exact, _Exact], Field(alias="int")]

    @model_validator(mode="after")
    def _range(self) -> Self:
        _low_below_high(self.int_)
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """Returns the least and the greatest value."""
        return self.int_

    def boundary_values(self) -> tuple[Scalar, ...]:
        """Returns the values at which the range can be invalid: its bounds."""
        return self.int_


class Choice(Frozen):
    """`{choice: [a, b, …]}`: one of the values."""

    grammar: ClassVar[str] = "`choice: [a, b, …]` with at least one value and no value twice"
    choice: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.choice)) < len(self.choice):  # 8 and 8.0 are one, as true and 1 are: the sampler compares them
            raise ValueError(f"values that differ, got {shown(list(self.choice))}")
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """Returns every choice."""
        return self.choice

    def boundary_values(self) -> tuple[Scalar, ...]:
        """Returns every choice: each can be invalid by itself."""
        return self.choice


Dimension = Uniform | LogUniform | Integer | Choice

DIMENSIONS: dict[str, type[Dimension]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int": Integer,
    "choice": Choice,
}


def parse_dimension(value: Any, where: str = "") -> Dimension | None:
    """Reads the value of a leaf as a dimension; None where it is none. `where` is the leaf's dotted path.

    Raises:
        BadInput: where the value is meant as a dimension, a mapping from one word to a list or from a dimension's kind
            to anything, but is no valid one.

    >>> parse_dimension({"uniform": [0, 1]})
    Uniform(uniform=(0.0, 1.0))
    """
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    ((kind, values),) = value.items()
    if kind not in DIMENSIONS:
        if not isinstance(values, list):
            return None  # a section with one key
        got = f"{shown(kind)}{did_you_mean(str(kind), DIMENSIONS, count=1)}"
        raise BadInput(Problem(where, f"a dimension of kind {', '.join(DIMENSIONS)}", got))
    try:
        return DIMENSIONS[kind].model_validate(value)
    except ValidationError:
        raise BadInput(Problem(where, DIMENSIONS[kind].grammar, shown(values))) from None


def spell(dimension: Dimension) -> str:
    """The dimension as a person would write it: `log_uniform [0.01, 0.1]`."""
    ((kind, values),) = dimension.model_dump(by_alias=True).items()
    return f"{kind} [{', '.join(map(str, values))}]"


def contains(dimension: Dimension, value: Any) -> bool:
    """Whether `value` is one that the dimension can take."""
    match dimension:
        case Choice():
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in dimension.choice
            )
        case Integer(int_=(low, high)):
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        case Uniform(uniform=(low, high)) | LogUniform(log_uniform=(low, high)):
            return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _low_below_high(ends: tuple[float, float]) -> None:
    low, high = ends
    if not low < high:
        raise ValueError(f"low below high, got {low}, {high}")
    if not math.isfinite(high - low):
        raise ValueError(f"a range of finite width, got {low}, {high}")
