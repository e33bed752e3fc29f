"""What a leaf of the experiment may be instead of a value: a dimension of the search."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, StrictInt, model_validator

from trainables.frozen import Frozen

Scalar = bool | int | float | str | None

GOLDEN = 0.6180339887498949
"""Where a range is tried between its ends: at no round number, so that a leaf that takes only integers refuses it."""


class Uniform(Frozen):
    """`{uniform: [low, high]}`: a float, every value between as likely."""

    uniform: tuple[float, float]

    @model_validator(mode="after")
    def _range(self) -> Self:
        _low_below_high(self.uniform)
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """The least and the greatest value."""
        return self.uniform

    def boundary_values(self) -> tuple[Scalar, ...]:
        """The values at which the range can be wrong: its ends, and a point between them."""
        low, high = self.uniform
        return (low, high, low + GOLDEN * (high - low))


class LogUniform(Frozen):
    """`{log_uniform: [low, high]}`: a float, every order of magnitude as likely."""

    log_uniform: tuple[float, float]

    @model_validator(mode="after")
    def _range(self) -> Self:
        _low_below_high(self.log_uniform)
        if self.log_uniform[0] <= 0:
            raise ValueError(f"a log range needs low > 0, got low={self.log_uniform[0]}")
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """The least and the greatest value."""
        return self.log_uniform

    def boundary_values(self) -> tuple[Scalar, ...]:
        """The values at which the range can be wrong: its ends, and a point between them."""
        low, high = self.log_uniform
        return (low, high, low * (high / low) ** GOLDEN)


class Integer(Frozen):
    """`{int: [low, high]}`: an integer, both ends included."""

    int_: Annotated[tuple[StrictInt, StrictInt], Field(alias="int")]

    @model_validator(mode="after")
    def _range(self) -> Self:
        _low_below_high(self.int_)
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """The least and the greatest value."""
        return self.int_

    def boundary_values(self) -> tuple[Scalar, ...]:
        """The values at which the range can be wrong: its ends."""
        return self.int_


class Choice(Frozen):
    """`{choice: [a, b, …]}`: one of the values."""

    choice: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(map(repr, self.choice))) < len(self.choice):
            raise ValueError(f"choices must differ from each other, got {list(self.choice)}")
        return self

    def bounds(self) -> tuple[Scalar, ...]:
        """Every choice."""
        return self.choice

    def boundary_values(self) -> tuple[Scalar, ...]:
        """Every choice: each can be wrong by itself."""
        return self.choice


Dimension = Uniform | LogUniform | Integer | Choice

DIMENSIONS: dict[str, type[Dimension]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int": Integer,
    "choice": Choice,
}


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
        raise ValueError(f"low < high must hold, got low={low}, high={high}")
