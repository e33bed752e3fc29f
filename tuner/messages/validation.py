"""pydantic's errors → Problems: the key as it stands in the file, what must hold, and what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainables.errors import Problem, nearest
from trainables.methods import METHODS


def problems_from_pydantic(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Every error as a Problem; `prefix` is the section that `model` describes."""
    return [_problem(detail, model, prefix) for detail in error.errors()]


def _problem(detail: ErrorDetails, model: type[BaseModel], prefix: str) -> Problem:
    location = _without_union_tags(detail["loc"])
    where = _dotted([*([prefix] if prefix else []), *location])
    got = repr(detail["input"])
    match detail["type"]:
        case "extra_forbidden":
            known = _known_keys(model, detail["loc"][:-1])
            close = nearest(str(location[-1]), known)
            hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
            return Problem(where, f"known keys are {', '.join(known)}{hint}", f"the unknown key {location[-1]!r}")
        case "union_tag_invalid" | "union_tag_not_found":
            name = detail["input"].get("name") if isinstance(detail["input"], dict) else None
            close = nearest(str(name), METHODS) if name else []
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            return Problem(
                f"{where}.name", f"a method's name: {', '.join(METHODS)}{hint}", repr(name) if name else "nothing"
            )
        case "missing":
            return Problem(where, "this key must be there", "nothing")
        case "value_error":
            message = str(detail["ctx"]["error"])
            expected, separator, value = message.rpartition(", got ")
            return Problem(where, expected, value) if separator else Problem(where, message, got)
        case _:
            return Problem(where, _lower(detail["msg"]), got)


def _without_union_tags(location: Sequence[str | int]) -> list[str | int]:
    """pydantic puts the chosen union member (`smile`) behind the key (`method`); a person did not write it."""
    kept: list[str | int] = []
    for position, part in enumerate(location):
        tag = position == 1 and location[0] == "method" and part in METHODS
        if not tag and not (isinstance(part, str) and part.startswith(("function-", "constrained-", "literal["))):
            kept.append(part)
    return kept


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that the model at `location` below `model` has."""
    current: Any = model
    for position, part in enumerate(location):
        if position == 1 and location[0] == "method" and part in METHODS:
            current = METHODS[str(part)].Config
        elif isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = field.annotation if field else None
        elif isinstance(part, int):
            current = next(iter(get_args(current)), None)  # the model that a tuple holds
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _dotted(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
