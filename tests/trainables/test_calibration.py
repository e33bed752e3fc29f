"""Temperature and threshold are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.calibration import FALSE_ALARM_RATE, conformal_threshold, with_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_divides_the_logits(temperature: float) -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5], [200.0, 0.0, -200.0]])
    expected = (logits / temperature).softmax(dim=1)
    probabilities = with_temperature(np.asarray(logits.softmax(dim=1)), temperature)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-12)


def test_new_scores_of_the_same_kind_are_below_the_threshold_no_oftener_than_stated() -> None:
    """Over many draws of the calibration set: the rate is that of a conformal quantile, k / (N + 1)."""
    rates = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        threshold = conformal_threshold(rng.normal(size=50))
        assert threshold is not None
        rates.append((rng.normal(size=200) < threshold).mean())
    expected = np.floor(FALSE_ALARM_RATE * 51) / 51
    assert np.mean(rates) == pytest.approx(expected, abs=0.006)
    assert np.mean(rates) <= FALSE_ALARM_RATE


def test_too_few_scores_have_no_threshold() -> None:
    assert conformal_threshold(np.arange(18.0)) is None
    assert conformal_threshold(np.arange(19.0)) == 0
