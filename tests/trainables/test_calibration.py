"""Temperature and threshold do to probabilities what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.calibration import FALSE_ALARM_RATE, is_unlike, unlike_threshold, with_temperature


def random_probabilities(count: int, seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(count, 4), scale=2)
    return np.asarray(torch.from_numpy(logits).float().softmax(dim=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_divides_the_logits(temperature: float) -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5], [200.0, 0.0, -200.0]])
    expected = (logits / temperature).softmax(dim=1)
    probabilities = with_temperature(np.asarray(logits.softmax(dim=1)), temperature)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-12)


def test_new_examples_of_the_same_kind_are_called_unlike_no_oftener_than_stated() -> None:
    """Over many draws of the calibration set: the rate is that of a conformal quantile, k / (N + 1)."""
    rates = []
    for seed in range(300):
        threshold = unlike_threshold(random_probabilities(50, seed))
        rates.append(is_unlike(random_probabilities(200, 1000 + seed), threshold).mean())
    expected = np.floor(FALSE_ALARM_RATE * 51) / 51
    assert np.mean(rates) == pytest.approx(expected, abs=0.006)
    assert np.mean(rates) <= FALSE_ALARM_RATE


def test_too_few_examples_call_nothing_unlike() -> None:
    assert unlike_threshold(random_probabilities(18)) == 0
    assert unlike_threshold(random_probabilities(19)) == random_probabilities(19).max(axis=1).min()
    assert not is_unlike(random_probabilities(100), 0.0).any()


def test_an_unreadable_input_is_not_unlike() -> None:
    probabilities = np.array([[np.nan, np.nan], [0.5, 0.5]], dtype=np.float32)
    assert is_unlike(probabilities, 0.6).tolist() == [False, True]
