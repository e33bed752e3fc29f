from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.trainables.tiny import CPU
from trainables.methods.mixing import Mix, draw_mix


def test_a_draw_depends_on_its_address_alone() -> None:
    first = draw_mix(6, 0.2, CPU, seed=1, step=5)
    draw_mix(9, 1.0, CPU, seed=1, step=6)
    again = draw_mix(6, 0.2, CPU, seed=1, step=5)
    assert again.weight == first.weight
    assert torch.equal(again.partner, first.partner)
    assert draw_mix(6, 0.2, CPU, seed=2, step=5).weight != first.weight
    assert draw_mix(6, 0.2, CPU, seed=1, step=7).weight != first.weight


def test_the_partner_is_a_permutation() -> None:
    for step in range(20):
        assert sorted(draw_mix(6, 0.2, CPU, 0, step).partner.tolist()) == list(range(6))


def test_weights_are_the_greater_of_beta_and_its_complement() -> None:
    """For α = 0.2: mean 0.899, median 0.976, and 42 % of the draws above 0.99."""
    weights = np.array([draw_mix(1, 0.2, CPU, 0, step).weight for step in range(4000)])
    assert weights.min() >= 0.5
    assert weights.max() <= 1
    assert weights.mean() == pytest.approx(0.899, abs=0.01)
    assert np.median(weights) == pytest.approx(0.976, abs=0.01)
    assert (weights > 0.99).mean() == pytest.approx(0.42, abs=0.03)


@pytest.mark.parametrize("alpha", [1e-3, 100])
def test_weights_are_numbers_at_both_ends_of_alpha(alpha: float) -> None:
    assert all(0.5 <= draw_mix(1, alpha, CPU, 0, step).weight <= 1 for step in range(100))


def test_blend_of_a_whole_weight_is_the_first_to_the_bit() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(Mix(1.0, torch.tensor([1, 2, 3, 0])).blend(x), x)


def test_blend_follows_the_formula() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 4.0]])
    blended = Mix(0.75, torch.tensor([1, 2, 0])).blend(x)
    assert_close(blended, torch.tensor([[1.5, 2.75], [2.25, 4.75], [0.25, 3.5]]))
