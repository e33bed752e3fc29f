"""Base class of configurations and records. It imports nothing heavy, so that commands which only read start fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


def _refuse_boolean_as_int(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return value


def _refuse_boolean_as_float(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


_REFUSALS = {"int": _refuse_boolean_as_int, "float": _refuse_boolean_as_float}


def _without_booleans(schema: Any) -> Any:
    """Copies a schema of pydantic whose numbers refuse booleans, but for those beside which booleans are allowed."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_without_booleans, schema))
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind in _REFUSALS:
        return core_schema.no_info_before_validator_function(_REFUSALS[kind], cast(CoreSchema, schema))
    if kind == "function-before" and schema["function"]["function"] in _REFUSALS.values():
        return schema  # of a model within this one
    if kind == "union" and any(isinstance(each, dict) and each.get("type") == "bool" for each in schema["choices"]):
        return schema
    return {key: _without_booleans(value) for key, value in schema.items()}


class Frozen(BaseModel):
    """Base class of configurations: immutable, and unknown keys are errors, as is a boolean in place of a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    replaced_keys: ClassVar[Mapping[str, str]] = {}
    """Key that there was in earlier versions → noun phrase for what says the same today, for the error."""

    counts_booleans: ClassVar[bool] = False
    """Whether true is taken for the number 1, as pydantic does. A class that only this project writes spares itself
    the check of every number."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema if cls.counts_booleans else cast(CoreSchema, _without_booleans(schema))
