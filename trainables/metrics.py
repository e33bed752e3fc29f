"""Metrics of predicted probabilities: accuracies, F1, log loss and calibration, with intervals over the examples.

All are functions of probabilities N×K and labels N on the host, without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from trainables.frozen import Frozen

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Metric = Callable[[Floats, Labels], float]

SMALLEST_PROBABILITY = 1e-7
"""Below which a probability counts as this in the log loss, about the resolution of fp32."""
NUM_BINS = 15
"""Bins of confidence of the expected calibration error (Guo et al., 2017)."""
NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
"""Coverage of the intervals."""


def top1(probabilities: Floats, labels: Labels) -> float:
    """Share of the examples whose most probable class is their label.

    >>> top1(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
    0.5
    """
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def balanced_accuracy(probabilities: Floats, labels: Labels) -> float:
    """Mean over the classes that have examples of the share of their examples that are named rightly.

    >>> balanced_accuracy(np.array([[0.75, 0.25], [0.75, 0.25], [0.75, 0.25]]), np.array([0, 0, 1]))
    0.5
    """
    counts = confusion_counts(probabilities, labels)
    present = counts.sum(axis=1) > 0
    return float(np.mean(np.diag(counts)[present] / counts.sum(axis=1)[present]))


def macro_f1(probabilities: Floats, labels: Labels) -> float:
    """Mean over the classes, that have examples or were predicted, of the harmonic mean of precision and recall."""
    counts = confusion_counts(probabilities, labels)
    sizes = counts.sum(axis=0) + counts.sum(axis=1)
    present = sizes > 0
    return float(np.mean(2 * np.diag(counts)[present] / sizes[present]))


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Mean negative logarithm of the probability of the label, in nats."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(of_label.clip(min=SMALLEST_PROBABILITY)).mean())


def calibration_error(probabilities: Floats, labels: Labels) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over `NUM_BINS` bins of equal width, each
    weighted by its examples (Guo et al., 2017, https://arxiv.org/abs/1706.04599, eq. 3)."""
    count, confidence, accuracy = reliability(probabilities, labels)
    filled = count > 0
    return float(np.sum(count[filled] * np.abs(confidence[filled] - accuracy[filled])) / len(labels))


METRICS: Mapping[str, Metric] = {
    "top1": top1,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}
LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error"})


def all_metrics(probabilities: Floats, labels: Labels) -> dict[str, float]:
    """The value of every metric."""
    return {name: metric(probabilities, labels) for name, metric in METRICS.items()}


def confusion_counts(probabilities: Floats, labels: Labels) -> NDArray[np.int64]:
    """Counts K×K of the examples by label (row) and most probable class (column)."""
    num_classes = probabilities.shape[1]
    pairs = labels * num_classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def reliability(probabilities: Floats, labels: Labels) -> tuple[Floats, Floats, Floats]:
    """Number of examples, mean confidence and accuracy in each bin of confidence; 0 in a bin without examples.

    The confidence is the probability of the most probable class; bin b has those in (b/B, (b+1)/B].
    """
    confidences = probabilities.max(axis=1)
    bins = (np.ceil(confidences * NUM_BINS).astype(np.int64) - 1).clip(0, NUM_BINS - 1)
    correct = probabilities.argmax(axis=1) == labels
    count = np.bincount(bins, minlength=NUM_BINS).astype(np.float64)
    sums = (np.bincount(bins, weights=each, minlength=NUM_BINS) for each in (confidences, correct))
    confidence, accuracy = (np.divide(total, count, out=np.zeros(NUM_BINS), where=count > 0) for total in sums)
    return count, confidence, accuracy


class MetricValue(Frozen):
    """Value of a metric, with the interval that holds it in 95 % of samples of as many examples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def metrics_with_intervals(probabilities: Floats, labels: Labels, seed: int = 0) -> dict[str, MetricValue]:
    """Every metric with its bootstrap interval: percentiles over `NUM_RESAMPLES` draws of N examples with replacement.

    The interval counts the number of examples, not how the trainings vary. That of top-1 is Wilson's, as the
    percentiles of few examples, or of no mistake, are too narrow.
    """
    from trainables.seeding import rng_for  # imports torch, which a reader of results does without

    if len(labels) == 0:
        return {}
    draws = rng_for(seed, "bootstrap").integers(0, len(labels), (NUM_RESAMPLES, len(labels)))
    samples = {name: np.empty(NUM_RESAMPLES) for name in METRICS}
    for i, draw in enumerate(draws):
        for name, value in all_metrics(probabilities[draw], labels[draw]).items():
            samples[name][i] = value
    tail = (1 - CONFIDENCE) / 2
    found = {}
    for name, value in all_metrics(probabilities, labels).items():
        low, high = np.quantile(samples[name], [tail, 1 - tail]).tolist()
        if name == "top1":
            low, high = wilson_interval(value, len(labels))
        found[name] = MetricValue(value=value, low=min(low, value), high=max(high, value))
    return found


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent examples (Wilson, 1927).

    >>> low, high = wilson_interval(0.5, 10)
    >>> round(low, 3), round(high, 3)
    (0.237, 0.763)
    """
    from scipy.stats import binomtest  # slow to import

    found = binomtest(round(share * count), count).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
