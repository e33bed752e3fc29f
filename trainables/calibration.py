"""Calibration of a classifier's probabilities, on predictions for examples that its training did not have."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from trainables.metrics import log_loss
from trainables.predictions import Predictions

FALSE_ALARM_RATE = 0.05
"""Share of images of the known classes that may be called unlike anything seen."""


def with_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Probabilities N×K with their logits divided by `temperature` (Guo et al., 2017,
    https://arxiv.org/abs/1706.04599): above 1 they are less sure. The most probable class stays the same.

    >>> with_temperature(np.array([[0.9, 0.1]], dtype=np.float32), 2.0).round(2)
    array([[0.75, 0.25]], dtype=float32)
    """
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore"):  # the logit of a probability that was rounded to 0 is −∞
        logits = np.log(probabilities)
    return np.asarray(softmax(logits / temperature, axis=1), dtype=probabilities.dtype)


def unlike_threshold(
    out_of_fold: NDArray[np.float32] | NDArray[np.float64], false_alarm_rate: float = FALSE_ALARM_RATE
) -> float:
    """Largest class probability below which an input is called unlike anything seen (Hendrycks & Gimpel, 2017,
    https://arxiv.org/abs/1610.02136).

    `out_of_fold` N×K are probabilities of examples of the known classes, each by a network that was not trained on it,
    with the temperature that will be applied. A new example of the same kind is called unlike with a probability of at
    most `false_alarm_rate`: the threshold is the conformal quantile, the ⌊rate · (N + 1)⌋-th smallest of the largest
    probabilities. With fewer examples than 1/rate − 1 it is 0, and nothing is called unlike.

    >>> unlike_threshold(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), false_alarm_rate=0.25)
    0.6
    """
    surest = np.sort(out_of_fold.max(axis=1))
    position = math.floor(false_alarm_rate * (len(surest) + 1))
    return float(surest[position - 1]) if position else 0.0


def is_unlike(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Whether each of the inputs with probabilities N×K is unlike anything seen, by a threshold of
    `unlike_threshold`."""
    return np.asarray(probabilities.max(axis=1, initial=0) < threshold)


MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def fitted_temperature(predictions: Predictions) -> float:
    """The temperature with the least log loss (Guo et al., 2017, §4.2), in [0.05, 20]."""
    from scipy.optimize import minimize_scalar  # slow to import

    def loss(log_temperature: float) -> float:
        return log_loss(with_temperature(predictions.probabilities, float(np.exp(log_temperature))), predictions.labels)

    bounds = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
