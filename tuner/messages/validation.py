"""pydantic's errors → Problems: the key as it is in the file, what was expected as a noun phrase, what was found."""

from __future__ import annotations

import re
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trainables.errors import Problem, did_you_mean
from trainables.frozen import Frozen
from tuner.messages.wording import NOTHING, shorten, shown

# By pydantic's type of error; the names in braces are in its context.
PHRASES = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "string_too_short": "a string of at least {min_length} characters",
    "string_too_long": "a string of at most {max_length} characters",
    "string_pattern_mismatch": "a string of the pattern {pattern}",
    "path_type": "a path",
    "literal_error": "{expected}",
    "none_required": "null",
    "too_short": "a list of at least {min_length} items",
    "too_long": "a list of at most {max_length} items",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section of keys and values",
    "mapping_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
    "missing": "a value",
}


def problems_from_pydantic(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Turns every error into a Problem, in one noun-phrase form; `prefix` is the section that `model` describes.

    A value that fits no member of a union is one problem, which names what each member expects.

    >>> from tuner.experiment.settings import SearchSettings
    >>> try:
    ...     SearchSettings.model_validate({"concurrency": 0})
    ... except ValidationError as error:
    ...     print(*problems_from_pydantic(error, SearchSettings, prefix="search"))
    search.concurrency: expected a number above 0 or 'auto', got 0
    """
    by_key: dict[str, list[Problem]] = {}
    for detail in error.errors(include_url=False):
        problem = _problem(detail, model, prefix)
        by_key.setdefault(problem.where, []).append(problem)
    return [
        Problem(where, " or ".join(dict.fromkeys(p.expected for p in problems)), problems[0].got)
        for where, problems in by_key.items()
    ]


def _problem(detail: ErrorDetails, model: type[BaseModel], prefix: str) -> Problem:
    keys, annotation = _resolve(detail["loc"], model)
    where, got, context = _dotted([*([prefix] if prefix else []), *keys]), shown(detail["input"]), detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            _, parent = _resolve(detail["loc"][:-1], model)
            known = _keys_of(parent)
            if instead := _replacement(parent, str(keys[-1])):
                return Problem(where, instead, f"{shown(keys[-1])}, a key of earlier versions")
            unknown = f"the unknown key {shown(keys[-1])}{did_you_mean(str(keys[-1]), known, count=1)}"
            return Problem(where, f"one of the keys {', '.join(known)}", unknown)
        case "union_tag_invalid" | "union_tag_not_found":
            key = context["discriminator"].strip("'")
            tag = detail["input"].get(key) if isinstance(detail["input"], dict) else None
            tags = [tag for member in _members(annotation) for tag in _tags(member, key)]
            hint = "" if tag is None else did_you_mean(str(tag), tags, count=1)
            return Problem(f"{where}.{key}", f"one of {', '.join(tags)}", f"{shown(tag)}{hint}")
        case "value_error":
            message = str(context["error"])
            expected, separator, value = message.rpartition(", got ")
            return Problem(where, expected, shorten(value)) if separator else Problem(where, message, got)
        case "missing":
            return Problem(where, PHRASES["missing"], NOTHING)
        case "literal_error":
            return Problem(where, context["expected"], got + _hint(detail["input"], context["expected"]))
        case kind:
            return Problem(where, _phrase(kind, detail["msg"], context), got)


def _phrase(kind: str, message: str, context: dict[str, Any]) -> str:
    if kind in PHRASES:
        shown_context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}
        return PHRASES[kind].format(**shown_context)
    return re.sub(r"^(Input|Value|Keys?) should (be|have) (valid )?", "", message)


def _hint(value: Any, expected: str) -> str:
    return did_you_mean(value, re.findall(r"'([^']*)'", expected), count=1) if isinstance(value, str) else ""


def _resolve(location: Sequence[str | int], model: type[BaseModel]) -> tuple[list[str | int], Any]:
    """Returns the keys and indices in `location`, as they are in the file, and the type of what is there.

    In between, pydantic puts the member of a union that it tried (`smile` behind `method`), which nobody wrote.
    """
    keys: list[str | int] = []
    current: Any = model
    for part in location:
        members = _members(current)
        if len(members) > 1:
            current = _member(members, part)
        elif part != "[key]":
            (only,) = members
            is_mapping = _is_model(only) or get_origin(only) is dict
            keys.append(str(part) if is_mapping else part)  # YAML reads some keys as numbers
            current = _inside(only, part)
    return keys, current


def _inside(annotation: Any, part: str | int) -> Any:
    """The type of one key or item of a model, mapping or list."""
    if _is_model(annotation):
        fields = {field.alias or name: _type_of(field) for name, field in annotation.model_fields.items()}
        return fields.get(str(part))
    arguments = get_args(annotation)
    return arguments[-1 if get_origin(annotation) is dict else 0] if arguments else None


def _type_of(field: FieldInfo) -> Any:
    """The type of a model's field; of one whose alternatives plugins add to, the union of those that there are."""
    return next((mark.union() for mark in field.metadata if hasattr(mark, "union")), field.annotation)


def _member(members: Sequence[Any], tag: str | int) -> Any:
    """The member of a union that its discriminator, the first field that is a literal in all of them, chooses."""
    for key in members[0].model_fields if all(map(_is_model, members)) else ():
        for member in members:
            if tag in _tags(member, key):
                return member
    return None


def _members(annotation: Any) -> list[Any]:
    """The members of a union, None left out; of anything else, itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for arg in get_args(annotation) if arg is not types.NoneType for inner in _members(arg)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _keys_of(annotation: Any) -> list[str]:
    """The keys of a model as they are in the file."""
    models = [member for member in _members(annotation) if _is_model(member)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _replacement(annotation: Any, key: str) -> str | None:
    """What a model says to use in place of a key of earlier versions (`Frozen.replaced_keys`)."""
    models = (m for m in _members(annotation) if isinstance(m, type) and issubclass(m, Frozen))
    return next((model.replaced_keys[key] for model in models if key in model.replaced_keys), None)


def _tags(member: Any, key: str) -> list[str]:
    """The values of `key`, the discriminator, that choose `member` of a union."""
    field = member.model_fields.get(key) if _is_model(member) else None
    return (
        [] if field is None or get_origin(field.annotation) is not Literal else [*map(str, get_args(field.annotation))]
    )


def _dotted(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
