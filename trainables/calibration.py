"""Calibration of a classifier's probabilities, on predictions for examples that its training did not have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.metrics import SMALLEST_PROBABILITY, log_loss
from trainables.predictions import Predictions

FALSE_ALARM_RATE = 0.05
"""Share of inputs of the known classes that may be called unlike anything seen."""


def with_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Probabilities N×K with their logits divided by `temperature` (Guo et al., 2017,
    https://arxiv.org/abs/1706.04599): above 1 they are less sure. The most probable class stays the same.

    >>> with_temperature(np.array([[0.9, 0.1]], dtype=np.float32), 2.0).round(2)
    array([[0.75, 0.25]], dtype=float32)
    """
    if temperature == 1:
        return probabilities
    from scipy.special import softmax  # slow to import

    with np.errstate(divide="ignore"):  # the logit of a probability that was rounded to 0 is −∞
        logits = np.log(probabilities)
    return np.asarray(softmax(logits / temperature, axis=1), dtype=probabilities.dtype)


def conformal_threshold(
    scores_N: NDArray[np.floating[Any]], false_alarm_rate: float = FALSE_ALARM_RATE
) -> float | None:
    """The score below which a new one of the same kind is with a probability of at most `false_alarm_rate`: the
    ⌊rate · (N + 1)⌋-th smallest of N. None with fewer than 1/rate − 1.

    >>> conformal_threshold(np.array([0.9, 0.6, 0.8]), false_alarm_rate=0.25)
    0.6
    """
    position = math.floor(false_alarm_rate * (len(scores_N) + 1))
    return float(np.sort(scores_N)[position - 1]) if position else None


MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def fitted_temperature(predictions: Predictions) -> float:
    """The temperature with the least log loss (Guo et al., 2017, §4.2), in [0.05, 20].

    Labels are smoothed by 1 / (N + 2), as Platt (1999, §2.2) does: N predictions that are all right would otherwise
    make the model certain of everything.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    smoothing = 1 / (len(predictions) + 2)

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(predictions.probabilities, float(np.exp(log_temperature)))
        of_any = float(-np.log(scaled.clip(min=SMALLEST_PROBABILITY)).mean())
        return (1 - smoothing) * log_loss(scaled, predictions.labels) + smoothing * of_any

    bounds = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
