"""Base of all events of a journal, and what events of searches and comparisons share."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from trainables.frozen import Frozen

Outcome = Literal["finished", "interrupted", "failed"]
"""Outcome of a command's run: `interrupted` is by Ctrl-C or `tuner.stop`, `failed` by an error."""
Params = dict[str, Any]
"""Value of each searched dimension, by dotted path."""


class Timed(Frozen):
    """Event with the Unix time at which it was made."""

    # Loss curves may hold infinities, of a training that diverges.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants")
    counts_booleans: ClassVar[bool] = True

    time_s: float = Field(default_factory=time.time, allow_inf_nan=False)
