"""Assignment of folds to a worker. Workers import this module, and with it none of the scheduler's samplers."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import TrialConfig


@dataclass(frozen=True)
class Assignment:
    """Folds of trial `number` for one worker: all that are missing, or one if other workers may take the rest.

    `folds` are counted from 1, over all deals of the examples into `num_folds` folds (see `fold_at`). After the
    optimiser steps `rungs` of fold 1 the worker reports a score and waits for a decision.
    """

    number: int
    config: TrialConfig
    num_folds: int
    folds: tuple[int, ...]
    rungs: tuple[int, ...] = ()
