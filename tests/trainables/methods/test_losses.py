from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from trainables.methods.losses import (
    cross_entropy,
    entropy,
    frobenius_per_position,
    full_precision,
    mean_squared_norm,
    one_hot,
)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("shape", "positions"), [((4, 6, 3, 5), 15), ((4, 7, 6), 7), ((4, 6), 1)])
def test_gradient_of_frobenius_is_one_over_the_positions(shape: tuple[int, ...], positions: int) -> None:
    output = torch.randn(shape, requires_grad=True)
    frobenius_per_position(output, 100 * torch.randn(shape)).backward()
    assert output.grad is not None
    assert_close(output.grad.norm(), torch.tensor(1 / positions))


def test_frobenius_of_equal_maps_has_a_finite_gradient() -> None:
    output = torch.randn(2, 6, 3, 3, requires_grad=True)
    distance = frobenius_per_position(output, output.detach().clone())
    distance.backward()
    assert distance == 0
    assert output.grad is not None
    assert not output.grad.any()


def test_distances_of_half_precision_are_computed_in_full() -> None:
    """In fp16 the squares would overflow."""
    output, wanted = torch.full((2, 4), 600.0, dtype=torch.float16), torch.zeros(2, 4, dtype=torch.float16)
    assert mean_squared_norm(output, wanted) == 4 * 600.0**2
    assert frobenius_per_position(output, wanted) == torch.tensor(8 * 600.0**2).sqrt()
    assert cross_entropy(output, torch.tensor([0, 1])).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_full_precision_never_takes_precision_away(given: torch.dtype, computed: torch.dtype) -> None:
    assert full_precision(torch.zeros(1, dtype=given)).dtype == computed


@pytest.mark.usefixtures("float64")
def test_hard_labels_are_one_hot_targets() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    assert one_hot(labels, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert_close(cross_entropy(logits, one_hot(labels, 3)), cross_entropy(logits, labels))


@pytest.mark.usefixtures("float64")
def test_entropy_is_the_least_cross_entropy() -> None:
    logits = torch.randn(5, 3)
    target = logits.softmax(dim=1)
    assert_close(cross_entropy(logits, target), entropy(target))
    assert cross_entropy(logits + 0.1 * torch.randn(5, 3), target) > entropy(target)
    assert entropy(torch.eye(3)) == 0
    assert_close(entropy(torch.full((2, 4), 0.25)), torch.tensor(4.0).log())
