from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F
from torch.testing import assert_close

from tests.trainables.methods import references
from trainables.methods.losses import (
    CROSS_ENTROPY,
    TargetLoss,
    balanced_class_weights,
    cross_entropy,
    excess,
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
def test_the_entropy_is_the_least_cross_entropy() -> None:
    logits = torch.randn(5, 3)
    target, least = logits.softmax(dim=1), references.entropy(logits.softmax(dim=1))
    assert_close(cross_entropy(logits, target), least)
    other = cross_entropy(logits + 0.1 * torch.randn(5, 3), target)
    assert excess(other, target) > 0
    assert_close(excess(other, target), other - least)
    assert excess(torch.tensor(0.5), torch.eye(3)) == 0.5
    assert_close(excess(torch.tensor(4.0).log(), torch.full((2, 4), 0.25)), torch.tensor(0.0))


WEIGHTS = [0.5, 2.0, 1.25]


def by_hand(
    logits: torch.Tensor, target_NK: torch.Tensor, weights_K: torch.Tensor, smoothing: float, is_labels: bool
) -> torch.Tensor:
    """−Σ w_k·t_k·log p_k of smoothed targets; over the examples, or of labels over their weights."""
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    smoothed = (1 - smoothing) * target_NK + smoothing / logits.shape[1]
    total = -(weights_K * smoothed * log_p).sum()
    return total / ((target_NK @ weights_K).sum() if is_labels else len(logits))


@pytest.mark.usefixtures("float64")
class TestTheTargetLoss:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
    @pytest.mark.parametrize("weights", [None, WEIGHTS])
    @pytest.mark.parametrize("is_labels", [True, False])
    def test_is_torchs_cross_entropy_and_its_equation(
        self, smoothing: float, weights: list[float] | None, is_labels: bool
    ) -> None:
        labels = torch.tensor([0, 2, 1, 1, 0])
        target_NK = one_hot(labels, 3) if is_labels else torch.randn(5, 3).softmax(dim=1)
        weights_K = None if weights is None else torch.tensor(weights)
        logits = torch.randn(5, 3, requires_grad=True)
        given = labels if is_labels else target_NK
        found = TargetLoss(weights_K, smoothing)(logits, given)
        of_torch = F.cross_entropy(logits, given, weight=weights_K, label_smoothing=smoothing)
        equation = by_hand(logits, target_NK, torch.ones(3) if weights_K is None else weights_K, smoothing, is_labels)
        gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, of_torch, equation)]
        for loss, gradient in zip((of_torch, equation), gradients[1:], strict=True):
            assert_close(found, loss, rtol=1e-12, atol=1e-14)
            assert_close(gradients[0], gradient, rtol=1e-10, atol=1e-13)

    def test_without_settings_is_plain_cross_entropy_to_the_bit(self) -> None:
        logits = torch.randn(5, 3)
        for target in (torch.tensor([0, 2, 1, 1, 0]), torch.randn(5, 3).softmax(dim=1)):
            assert torch.equal(CROSS_ENTROPY(logits, target), cross_entropy(logits, target))
            assert_close(CROSS_ENTROPY.of_each(logits, target).mean(), cross_entropy(logits, target))
            assert CROSS_ENTROPY.example_weights(target) is None
            assert CROSS_ENTROPY.smoothed(target) is target

    def test_of_each_example_is_not_a_mean(self) -> None:
        loss, logits, labels = TargetLoss(torch.tensor(WEIGHTS)), torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
        weights_N = torch.tensor(WEIGHTS)[labels]
        assert_close(loss.of_each(logits, labels).sum() / weights_N.sum(), loss(logits, labels))
        assert_close(loss.example_weights(one_hot(labels, 3)), weights_N[:, None])

    def test_weights_are_of_the_precision_of_the_logits(self) -> None:
        loss = TargetLoss(torch.tensor(WEIGHTS))
        assert loss(torch.randn(5, 3, dtype=torch.float32), torch.tensor([0, 2, 1, 1, 0])).dtype == torch.float32
        assert loss(torch.randn(5, 3, dtype=torch.bfloat16), torch.tensor([0, 2, 1, 1, 0])).dtype == torch.float32

    def test_balanced_weights_are_scikit_learns(self) -> None:
        labels = torch.tensor([0, 0, 0, 0, 3, 3, 1])
        expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels.numpy())
        weights_K = balanced_class_weights(labels, num_classes=5)
        assert_close(weights_K[[0, 1, 3]], torch.from_numpy(expected))
        assert weights_K[[2, 4]].tolist() == [0, 0]
        assert_close(weights_K[labels].mean(), torch.tensor(1.0))
