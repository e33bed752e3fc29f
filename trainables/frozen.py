"""Base class of configurations and records. It imports nothing heavy, so that commands which only read start fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base class of configurations: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    replaced_keys: ClassVar[Mapping[str, str]] = {}
    """Key that there was in earlier versions → noun phrase for what says the same today, for the error."""
