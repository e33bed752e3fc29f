"""What a worker is given to do. Workers import this, and with it none of the scheduler's samplers."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import TrialConfig


@dataclass(frozen=True)
class Assignment:
    """Folds of a trial (of `num_folds` in all, counted from 1) for one worker: all that are missing, or a single one,
    where other workers may take the rest.

    At the steps `rungs` of fold 1 the worker scores what it has, and asks whether to continue.
    """

    number: int
    config: TrialConfig
    num_folds: int
    folds: tuple[int, ...]
    rungs: tuple[int, ...] = ()
