"""Timing of a training on the real data, from a few steps of it: the basis of the plan for `search.minutes`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.folds import fold_at
from trainables.device import default_device
from trainables.errors import Diverged
from trainables.trial import FoldTraining, Training, accuracy_on

TIMED_STEPS = 3
"""Number of steps that are timed, after one that is not: a first step allocates, and may compile."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds of the parts of a training: what precedes its steps, each step, and the evaluation of an example;
    `timed_s` is what measuring them took."""

    setup_s: float
    step_s: float
    example_s: float
    timed_s: float = 0.0

    @classmethod
    def mean(cls, times: Iterable[Self]) -> Self:
        """Returns the means of several measurements."""
        all_times = list(times)
        return cls(
            setup_s=fmean(each.setup_s for each in all_times),
            step_s=fmean(each.step_s for each in all_times),
            example_s=fmean(each.example_s for each in all_times),
            timed_s=fmean(each.timed_s for each in all_times),
        )

    def training_s(self, num_steps: int, num_scored: int) -> float:
        """Seconds of a training of so many steps that is scored on so many examples.

        >>> StepTimes(setup_s=2.0, step_s=0.5, example_s=0.25).training_s(num_steps=10, num_scored=8)
        9.0
        """
        return self.setup_s + num_steps * self.step_s + num_scored * self.example_s


def time_steps(config: TrialConfig, examples: Examples, num_folds: int) -> StepTimes:
    """Times a few optimiser steps and one batch of the evaluation, in fold 1 of `config`, in this process.

    The head is a random one: a probe takes its time once in a search, not in each of its trainings.
    """
    length = {"num_steps": 1 + TIMED_STEPS, "num_epochs": None, "head_init": "random"}
    config = config.model_copy(update={"training": config.training.model_copy(update=length)})
    device = default_device()
    fold = fold_at(examples, 1, num_folds, config.seed)
    started_s = time.monotonic()
    training = FoldTraining(config, examples, 1, fold, device).training
    first_s = _seconds_to(training, 1, started_s)
    stepped_s = _seconds_to(training, 1 + TIMED_STEPS, started_s)
    some = examples.take(fold.validation[: config.training.eval_batch_size])
    accuracy_on(training.fit.method.student, some, config, device)
    scored_s = time.monotonic() - started_s
    step_s = (stepped_s - first_s) / TIMED_STEPS
    return StepTimes(max(0.0, first_s - step_s), step_s, (scored_s - stepped_s) / len(some), scored_s)


def _seconds_to(training: Training, step: int, started_s: float) -> float:
    with contextlib.suppress(Diverged):  # as it may at a learning rate that the search is to find too large
        training.run(step)
    return time.monotonic() - started_s
