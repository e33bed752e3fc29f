"""Progress within a training: its step, loss, speed and remaining time, for whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from trainables.frozen import Frozen

if TYPE_CHECKING:  # with torch, which a display does without
    from trainables.training.loop import Fit

PERIOD_S = 2.0
"""Least time between two reports of a training."""


class StepProgress(Frozen):
    """State of a training in progress.

    `loss` is the sum of the loss terms, the mean of the latest interval of its history; None before the first.
    `examples_per_s` and `left_s` are by the steps since the last report, and since the first.
    """

    step: int
    num_steps: int
    steps_per_epoch: int
    loss: float | None
    examples_per_s: float
    left_s: float


Listener = Callable[[StepProgress], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def progress_to(listener: Listener) -> Iterator[None]:
    """Has trainings that are begun inside the block report to `listener`, as long as they run."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class ProgressMeter:
    """Reports the progress of `fit` to the listener of its time, at most every `PERIOD_S`; to be called after every
    step."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._listener = _listener.get()
        self._first = self._last = (time.monotonic(), fit.step)

    def __call__(self) -> None:
        """Reports, if a listener waits and the period has passed."""
        if self._listener is None:
            return
        now_s = time.monotonic()
        if now_s - self._last[0] >= PERIOD_S:
            self._listener(self._progress(now_s))
            self._last = (now_s, self._fit.step)

    def _progress(self, now_s: float) -> StepProgress:
        fit = self._fit
        (first_s, first_step), (last_s, last_step) = self._first, self._last
        steps_left, step_s = fit.num_steps - fit.step, (now_s - first_s) / max(1, fit.step - first_step)
        return StepProgress(
            step=fit.step,
            num_steps=fit.num_steps,
            steps_per_epoch=fit.method.context.steps_per_epoch,
            loss=_latest_loss(fit),
            examples_per_s=(fit.step - last_step) * fit.config.batch_size / (now_s - last_s),
            left_s=steps_left * step_s,
        )


def _latest_loss(fit: Fit) -> float | None:
    """Sum of the loss terms, without what is only watched."""
    watched = {*fit.method.diagnostics, "gradient_norm"}
    terms = [values[-1] for name, values in fit.history.terms.items() if name not in watched]
    return sum(terms) if terms else None
