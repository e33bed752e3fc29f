"""Learning curves: metrics of the validation part at a few steps of a training, for a small share of its time.

By default the first point is at a ninth of the training. It takes a measured time, and the steps before it another:
from both follows how many more points fit into `MAX_SHARE` of the training, evenly spaced over the rest. A training of
which not even one evaluation fits has no curve. Where the best point is kept, the points may not depend on a clock:
they are at every eighth of the training.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from trainables.predictions import Predictions
from trainables.training.loop import Fit

ScoreOf = Callable[[Mapping[str, float]], float]
"""Function from the metrics of a validation part to their score, the larger the better."""

MAX_SHARE = 0.02
"""Largest share of a training's time that the points of its curve may take."""
MAX_POINTS = 8
"""Largest number of points before the end."""
STEP_COST = 3.0
"""About how many evaluations of its examples an optimiser step costs: forward, backward and update."""


@dataclass
class Curve:
    """Metrics by name at `steps` of a training, and the `planned` steps at which it is yet to be scored (None: they are
    not planned yet)."""

    steps: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    planned: list[int] | None = None

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the point of a step, unless it is there already."""
        if step in self.steps:
            return
        self.steps.append(step)
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(value)

    def next_point(self, step: int, before: int) -> int | None:
        """Returns the first planned step from `step` on that is not scored yet and before another; None if there is
        none. A training that resumes at a point has it yet to score."""
        points = (point for point in self.planned or () if step <= point < before and point not in self.steps)
        return next(points, None)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the curve."""
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        vars(self).update(copy.deepcopy(state))


def first_point(num_steps: int, batch_size: int, num_scored: int) -> int | None:
    """Returns the first step that is scored; None if a training of `num_steps` is too short for a curve.

    >>> first_point(num_steps=90, batch_size=24, num_scored=50), first_point(num_steps=90, batch_size=8, num_scored=50)
    (10, None)
    """
    share = num_scored / max(1.0, STEP_COST * batch_size * num_steps)
    return num_steps // (MAX_POINTS + 1) if num_steps >= 2 * MAX_POINTS and share <= MAX_SHARE else None


def further_points(first: int, num_steps: int, step_s: float, evaluation_s: float) -> list[int]:
    """Returns the steps after the `first` point that are scored, by the measured seconds of a step and an evaluation.

    >>> further_points(first=10, num_steps=90, step_s=0.5, evaluation_s=0.25)  # 0.9 s are 3 evaluations
    [37, 63]
    """
    affordable = int(MAX_SHARE * num_steps * step_s / max(evaluation_s, 1e-9)) - 1
    count = max(0, min(MAX_POINTS - 1, affordable))
    return [first + round(k * (num_steps - first) / (count + 1)) for k in range(1, count + 1)]


def even_points(num_steps: int) -> list[int]:
    """Returns the steps at every eighth of a training, without its end.

    >>> even_points(80), even_points(3)
    ([10, 20, 30, 40, 50, 60, 70], [1, 2])
    """
    return sorted({round(k * num_steps / MAX_POINTS) for k in range(1, MAX_POINTS)} - {0, num_steps})


class CurveScorer:
    """Scores the points of a curve on the way of a training.

    `run` trains `fit` up to a step, `predict` predicts the validation part, of `num_scored` examples. With `best_by`
    the predictions at the best point are kept, of equals the earliest, and not those of the end.
    """

    def __init__(
        self,
        fit: Fit,
        run: Callable[[int], None],
        predict: Callable[[], Predictions],
        batch_size: int,
        num_scored: int,
        best_by: ScoreOf | None = None,
    ) -> None:
        self.curve = Curve()
        self._fit = fit
        self._run = run
        self._predict = predict
        self._first = first_point(fit.num_steps, batch_size, num_scored)
        self._best_by = best_by
        self._best: tuple[int, Predictions] | None = None

    def train_to(self, step: int) -> None:
        """Trains up to `step`, and scores the points before it."""
        curve = self.curve
        if curve.planned is None:
            first = [] if self._first is None else [self._first]
            curve.planned = first if self._best_by is None else even_points(self._fit.num_steps)
        while (point := curve.next_point(self._fit.step, step)) is not None:
            is_first = self._best_by is None and curve.planned == [point]
            step_s = self._train_timed(point) if is_first else None
            self._run(point)
            started_s = time.monotonic()
            self.add(self._predict())
            if step_s is not None:
                evaluation_s = time.monotonic() - started_s
                curve.planned += further_points(point, self._fit.num_steps, step_s, evaluation_s)
        self._run(step)

    def _train_timed(self, step: int) -> float | None:
        """Trains up to `step` and returns the seconds of a step; None if there was at most one, which may compile."""
        self._run(min(step, self._fit.step + 1))
        before, started_s = self._fit.step, time.monotonic()
        self._run(step)
        return (time.monotonic() - started_s) / (step - before) if step > before else None

    def add(self, predictions: Predictions) -> None:
        """Adds the point of the current step, and keeps its predictions if they are the best."""
        self.curve.add(self._fit.step, predictions.metrics)
        if self._best_by is None:
            return
        if self._best is None or self._best_by(predictions.metrics) > self._best_by(self._best[1].metrics):
            self._best = self._fit.step, predictions

    def end(self, predictions: Predictions) -> tuple[float, Predictions]:
        """Ends the curve with the predictions after the last step. Returns those that are kept, after which share of
        the steps."""
        if self.curve.steps or self._best_by is not None:
            self.add(predictions)
        if self._best is None or not self._fit.num_steps:
            return 1.0, predictions
        step, best = self._best
        return step / self._fit.num_steps, best

    def state_dict(self) -> dict[str, Any]:
        """The curve so far, and the predictions that are kept."""
        best = None
        if self._best is not None:
            step, kept = self._best
            best = (step, {name: torch.tensor(array) for name, array in kept.arrays.items()})
        return {"curve": self.curve.state_dict(), "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self.curve.load_state_dict(state["curve"])
        if state["best"] is not None:
            step, arrays = state["best"]
            self._best = step, Predictions(**{name: array.numpy() for name, array in arrays.items()})
