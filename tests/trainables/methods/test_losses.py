from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from trainables.methods.losses import (
    cross_entropy,
    entropy,
    frobenius_per_position,
    frobenius_scale,
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


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("times", [2, 5])
def test_frobenius_grows_with_the_root_of_the_batch(times: int) -> None:
    """It is a norm over the whole batch, and not a mean."""
    output, target = torch.randn(4, 6, 3, 5), torch.randn(4, 6, 3, 5)
    repeated = frobenius_per_position(output.repeat(times, 1, 1, 1), target.repeat(times, 1, 1, 1))
    assert_close(repeated, times**0.5 * frobenius_per_position(output, target))


@pytest.mark.parametrize("shape", [(48, 1280, 7, 7), (48, 6, 7, 7), (48, 49, 384), (48, 6, 1, 49)])
def test_the_scale_is_one_to_the_bit_for_the_papers_batch_and_map(shape: tuple[int, ...]) -> None:
    assert frobenius_scale(torch.empty(shape, device="meta")) == 1.0


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "shape", [(48, 6, 2, 2), (24, 6, 4, 4), (8, 6, 7, 7), (3, 6, 12, 12), (1, 6, 1, 1), (24, 30, 6), (24, 6)]
)
def test_scaled_frobenius_and_squares_weigh_the_same_beside_cross_entropy_at_every_size(shape: tuple[int, ...]) -> None:
    """Examples and positions are copies of one, so that sizes are all that differs."""
    assert_close(strengths_beside_cross_entropy(shape), strengths_beside_cross_entropy((48, 6, 7, 7)))


def strengths_beside_cross_entropy(shape: tuple[int, ...]) -> torch.Tensor:
    """Norms of the gradients at a feature map, in that of a mean cross-entropy of a linear head on its average."""
    channels = torch.linspace(-1, 2, 6)
    features = (channels[:, None, None] if len(shape) == 4 else channels).expand(shape).clone().requires_grad_()
    over_positions = {2: (), 3: (1,), 4: (2, 3)}[len(shape)]
    pooled = features.mean(dim=over_positions) if over_positions else features
    head = torch.linspace(-1, 1, 18).view(3, 6).cos()
    labels = torch.zeros(len(features), dtype=torch.long)
    distance = frobenius_scale(features) * frobenius_per_position(features, torch.zeros(shape))
    terms = [cross_entropy(pooled @ head.T, labels), distance, mean_squared_norm(pooled, torch.zeros(len(pooled), 6))]
    norms = torch.stack([torch.autograd.grad(term, features, retain_graph=True)[0].norm() for term in terms])
    return norms[1:] / norms[0]


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
