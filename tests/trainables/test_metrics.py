"""Metrics against scikit-learn, which computes them from the same predictions by other code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from trainables.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    all_metrics,
    balanced_accuracy,
    calibration_error,
    confusion_counts,
    log_loss,
    macro_f1,
    metrics_with_intervals,
    reliability,
    top1,
    wilson_interval,
)


@pytest.fixture(params=[(40, 3), (200, 7), (12, 2)])
def predicted(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Probabilities and labels; the last class has few examples."""
    count, num_classes = request.param
    rng = np.random.default_rng(count)
    labels = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32), labels


def test_accuracies_and_f1(predicted: tuple[Any, Any]) -> None:
    probabilities, labels = predicted
    named = probabilities.argmax(axis=1)
    assert top1(*predicted) == pytest.approx(np.mean(named == labels))
    assert balanced_accuracy(*predicted) == pytest.approx(balanced_accuracy_score(labels, named))
    assert macro_f1(*predicted) == pytest.approx(f1_score(labels, named, average="macro"))


def test_log_loss(predicted: tuple[Any, Any]) -> None:
    probabilities, labels = predicted
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    expected = sklearn_log_loss(labels, exact, labels=range(probabilities.shape[1]))
    assert log_loss(probabilities, labels) == pytest.approx(expected, rel=1e-5)


def test_a_probability_of_zero_is_no_infinity() -> None:
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(16.118, abs=1e-3)


def test_confusion(predicted: tuple[Any, Any]) -> None:
    probabilities, labels = predicted
    expected = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1]))
    np.testing.assert_array_equal(confusion_counts(probabilities, labels), expected)


def test_a_class_without_examples_counts_in_no_mean() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    labels = np.array([0, 1])
    assert balanced_accuracy(probabilities, labels) == 0.5
    assert macro_f1(probabilities, labels) == pytest.approx((2 / 3 + 0) / 2)


def test_reliability(predicted: tuple[Any, Any]) -> None:
    probabilities, labels = predicted
    count, confidence, accuracy = reliability(probabilities, labels)
    correct = probabilities.argmax(axis=1) == labels
    shares, confidences = calibration_curve(correct, probabilities.max(axis=1), n_bins=15)
    filled = count > 0
    np.testing.assert_allclose(accuracy[filled], shares, rtol=1e-6)
    np.testing.assert_allclose(confidence[filled], confidences, rtol=1e-5)
    assert count.sum() == len(labels)


def test_calibration_error_of_known_predictions() -> None:
    """Four examples of confidence 0.8 of which two are right, and one of 0.6 that is right."""
    probabilities = np.array([[0.8, 0.2]] * 4 + [[0.6, 0.4]])
    labels = np.array([0, 0, 1, 1, 0])
    assert calibration_error(probabilities, labels) == pytest.approx((4 * 0.3 + 1 * 0.4) / 5)
    certain = np.eye(3)
    assert calibration_error(certain, np.arange(3)) == 0


def test_all_have_an_interval_around_their_value(predicted: tuple[Any, Any]) -> None:
    found = metrics_with_intervals(*predicted)
    assert {name: each.value for name, each in found.items()} == pytest.approx(all_metrics(*predicted))
    assert list(found) == list(METRICS)
    for each in found.values():
        assert each.low <= each.value <= each.high
        assert each.low < each.high
    assert metrics_with_intervals(*predicted) == found, "the draws have an address"


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of balanced accuracy, 0.7 for each of three classes, over 30 samples of 150 examples."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(30):
        labels = rng.integers(0, 3, 150)
        named = np.where(rng.random(150) < 0.7, labels, (labels + rng.integers(1, 3, 150)) % 3)
        interval = metrics_with_intervals(np.eye(3)[named], labels)["balanced_accuracy"]
        held += interval.low <= 0.7 <= interval.high
    assert 24 <= held <= 30  # 28.5 expected; 4 standard deviations below it is 24


def test_wilson_against_its_equation() -> None:
    """The roots p of (p̂ − p)² = z² p (1 − p) / n (Wilson, 1927)."""
    z = 1.959963984540054
    for right, count in ((0, 5), (3, 7), (90, 100), (12, 12)):
        share = right / count
        roots = np.roots([1 + z**2 / count, -(2 * share + z**2 / count), share**2])
        assert wilson_interval(share, count) == pytest.approx(sorted(roots.real), abs=1e-7)


def test_what_is_better_when_lower() -> None:
    assert METRICS.keys() > LOWER_IS_BETTER


def test_no_examples_have_no_metrics() -> None:
    assert metrics_with_intervals(np.empty((0, 3)), np.empty(0, dtype=np.int64)) == {}
