"""Scores of parts of a trial, as events hold them."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from trainables.frozen import Frozen


class FoldScore(Frozen):
    """Score of a fold, without the rest of its result."""

    # As in events: a log loss may be infinite.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants")

    fold: int
    val_top1: float
    metrics: dict[str, float] = Field(default_factory=dict)
    """As of a FoldResult."""


class RungScore(FoldScore):
    """Score of a trial in the middle of a fold: after `step` optimiser steps, nominally `share` of the fold."""

    step: int
    share: float
