"""Predictions as arrays: kept to the bit, averaged over deals, and made less sure by a temperature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.calibration import fitted_temperature, with_temperature
from trainables.predictions import Predictions, mean_predictions


def predictions(index: list[int], sharpness: float = 1.0, num_classes: int = 3) -> Predictions:
    rng = np.random.default_rng(len(index))
    labels = np.array([position % num_classes for position in index])
    logits = sharpness * (rng.normal(size=(len(index), num_classes)) + np.eye(num_classes)[labels])
    shares = np.exp(logits)
    return Predictions(np.array(index), labels, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def test_is_read_back_to_the_bit() -> None:
    kept = predictions([5, 1, 8])
    read = Predictions.from_bytes(kept.as_bytes())
    for name in ("index", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(read, name), getattr(kept, name))
        assert getattr(read, name).dtype == getattr(kept, name).dtype


def test_features_are_kept_where_there_are_any() -> None:
    kept = replace(predictions([5, 1, 8]), features=np.ones((2, 4), dtype=np.float16))
    features = Predictions.from_bytes(kept.as_bytes()).features
    assert features is not None
    np.testing.assert_array_equal(features, kept.features)
    assert Predictions.from_bytes(predictions([5, 1, 8]).as_bytes()).features is None


def test_anything_else_is_no_prediction() -> None:
    with pytest.raises(Exception, match=r"pickle|magic|file|data"):
        Predictions.from_bytes(b"not an archive")


def test_folds_of_several_deals_are_averaged_by_example() -> None:
    first, second = predictions([3, 0]), predictions([1, 0])
    mean = mean_predictions([first, second])
    assert mean.index.tolist() == [0, 1, 3]
    assert mean.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(mean.probabilities[0], (first.probabilities[1] + second.probabilities[1]) / 2, rtol=1e-6)
    np.testing.assert_allclose(mean.probabilities[2], first.probabilities[0], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_divides_the_logits(temperature: float) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (logits / temperature).softmax(dim=1)
    scaled = with_temperature(logits.softmax(dim=1).float().numpy(), temperature)
    np.testing.assert_allclose(scaled, expected.numpy(), atol=1e-6)


def test_the_fitted_temperature_undoes_too_much_confidence() -> None:
    """Logits of probabilities that are right, times three: the temperature is three."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in shares])
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    temperature = fitted_temperature(Predictions(np.arange(4000), labels, sharp.astype(np.float32)))
    assert temperature == pytest.approx(3, rel=0.1)


def test_it_has_the_least_log_loss_of_a_grid() -> None:
    sharp = predictions(list(range(60)), sharpness=4)
    targets = np.full((60, 3), 1 / 62 / 3)
    targets[np.arange(60), sharp.labels] += 61 / 62

    def loss(temperature: float) -> float:
        scaled = with_temperature(sharp.probabilities, temperature)
        return float(-(targets * np.log(scaled.clip(min=1e-7))).sum(axis=1).mean())

    assert loss(fitted_temperature(sharp)) <= min(map(loss, np.geomspace(0.1, 10, 41))) + 1e-6


@pytest.mark.parametrize("count", [20, 200])
def test_few_predictions_that_are_all_right_make_no_model_certain(count: int) -> None:
    """The rule of succession: the share of mistakes is about one in N + 2."""
    shares = np.tile(np.array([[0.9, 0.07, 0.03]], dtype=np.float32), (count, 1))
    temperature = fitted_temperature(Predictions(np.arange(count), np.zeros(count, dtype=np.int64), shares))
    surest = with_temperature(shares, temperature).max()
    assert 0.3 / (count + 2) < 1 - surest < 1.5 / (count + 2)
