"""Metrics of predicted probabilities: accuracies, F1, log loss and calibration, with intervals over the examples.

All are functions of probabilities N×K and labels N on the host, without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.frozen import Frozen

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]

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
    return _top1(_Judged.of(probabilities, labels))


def balanced_accuracy(probabilities: Floats, labels: Labels) -> float:
    """Mean over the classes that have examples of the share of their examples that are named rightly.

    >>> balanced_accuracy(np.array([[0.75, 0.25], [0.75, 0.25], [0.75, 0.25]]), np.array([0, 0, 1]))
    0.5
    """
    return _balanced_accuracy(_Judged.of(probabilities, labels))


def macro_f1(probabilities: Floats, labels: Labels) -> float:
    """Mean over the classes, that have examples or were predicted, of the harmonic mean of precision and recall."""
    return _macro_f1(_Judged.of(probabilities, labels))


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Mean negative logarithm of the probability of the label, in nats."""
    return _log_loss(_Judged.of(probabilities, labels))


def calibration_error(probabilities: Floats, labels: Labels) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over `NUM_BINS` bins of equal width, each
    weighted by its examples (Guo et al., 2017, https://arxiv.org/abs/1706.04599, eq. 3)."""
    return _calibration_error(_Judged.of(probabilities, labels))


@dataclass(frozen=True, eq=False)
class _Judged:
    """All that the metrics read of N predictions: labels and most probable classes, of `num_classes`, and the
    probabilities of both. Examples are drawn anew from it without a copy of the probabilities N×K."""

    labels: Labels
    predicted: Labels
    confidences: Floats
    of_label: Floats
    num_classes: int

    @classmethod
    def of(cls, probabilities: Floats, labels: Labels) -> _Judged:
        of_label = probabilities[np.arange(len(labels)), labels]
        return cls(labels, probabilities.argmax(axis=1), probabilities.max(axis=1), of_label, probabilities.shape[1])

    def take(self, draw: Labels) -> _Judged:
        predicted, confidences, of_label = self.predicted[draw], self.confidences[draw], self.of_label[draw]
        return _Judged(self.labels[draw], predicted, confidences, of_label, self.num_classes)

    def confusion_counts(self) -> NDArray[np.int64]:
        pairs = self.labels * self.num_classes + self.predicted
        return np.bincount(pairs, minlength=self.num_classes**2).reshape(self.num_classes, self.num_classes)

    def reliability(self) -> tuple[Floats, Floats, Floats]:
        bins = (np.ceil(self.confidences * NUM_BINS).astype(np.int64) - 1).clip(0, NUM_BINS - 1)
        count = np.bincount(bins, minlength=NUM_BINS).astype(np.float64)
        correct = self.predicted == self.labels
        sums = (np.bincount(bins, weights=each, minlength=NUM_BINS) for each in (self.confidences, correct))
        confidence, accuracy = (np.divide(total, count, out=np.zeros(NUM_BINS), where=count > 0) for total in sums)
        return count, confidence, accuracy


def _top1(judged: _Judged) -> float:
    return float(np.mean(judged.predicted == judged.labels))


def _balanced_accuracy(judged: _Judged) -> float:
    counts = judged.confusion_counts()
    present = counts.sum(axis=1) > 0
    return float(np.mean(np.diag(counts)[present] / counts.sum(axis=1)[present]))


def _macro_f1(judged: _Judged) -> float:
    counts = judged.confusion_counts()
    sizes = counts.sum(axis=0) + counts.sum(axis=1)
    present = sizes > 0
    return float(np.mean(2 * np.diag(counts)[present] / sizes[present]))


def _log_loss(judged: _Judged) -> float:
    of_label = judged.of_label.astype(np.float64)
    return float(-np.log(of_label.clip(min=SMALLEST_PROBABILITY)).mean())


def _calibration_error(judged: _Judged) -> float:
    count, confidence, accuracy = judged.reliability()
    filled = count > 0
    return float(np.sum(count[filled] * np.abs(confidence[filled] - accuracy[filled])) / len(judged.labels))


METRICS: Mapping[str, Callable[[_Judged], float]] = {
    "top1": _top1,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "log_loss": _log_loss,
    "calibration_error": _calibration_error,
}
LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error"})


def all_metrics(probabilities: Floats, labels: Labels) -> dict[str, float]:
    """The value of every metric."""
    judged = _Judged.of(probabilities, labels)
    return {name: metric(judged) for name, metric in METRICS.items()}


def confusion_counts(probabilities: Floats, labels: Labels) -> NDArray[np.int64]:
    """Counts K×K of the examples by label (row) and most probable class (column)."""
    return _Judged.of(probabilities, labels).confusion_counts()


def reliability(probabilities: Floats, labels: Labels) -> tuple[Floats, Floats, Floats]:
    """Number of examples, mean confidence and accuracy in each bin of confidence; 0 in a bin without examples.

    The confidence is the probability of the most probable class; bin b has those in (b/B, (b+1)/B].
    """
    return _Judged.of(probabilities, labels).reliability()


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
    judged, rng = _Judged.of(probabilities, labels), rng_for(seed, "bootstrap")
    samples = {name: np.empty(NUM_RESAMPLES) for name in METRICS}
    for i in range(NUM_RESAMPLES):
        drawn = judged.take(rng.integers(0, len(labels), len(labels)))
        for name, metric in METRICS.items():
            samples[name][i] = metric(drawn)
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
