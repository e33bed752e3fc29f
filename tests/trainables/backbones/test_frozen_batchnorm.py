"""Frozen BatchNorm against networks that are written down with F.batch_norm, and folded against unfolded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainables.backbones.test_batchnorm_folding import (
    ARCHITECTURES,
    ReadByTwo,
    ReadPast,
    network_with_statistics,
    uint8_images,
)
from tests.trainables.tiny import TinyConv, TinyTokens, tiny_batch, tiny_network
from trainables.backbones.frozen_batchnorm import FrozenBatchNorm
from trainables.backbones.network import Backbone

folded_or_not = pytest.mark.parametrize("fold", [True, False], ids=["folded", "as it is"])


def tiny_backbone(kind: type[Backbone] = TinyConv) -> Backbone:
    return tiny_network(kind=kind).backbone


def embedded(backbone: Backbone, count: int = 6) -> Tensor:
    inputs: Tensor = backbone.embed(tiny_batch(count=count).inputs)
    return inputs


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def value_and_gradients(backbone: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Features, and the gradient of a sum of products with fixed random numbers at the input and every parameter."""
    x = x.clone().requires_grad_(True)
    features, pooled = backbone(x)
    factors = torch.randn(features.shape, generator=torch.Generator().manual_seed(3), dtype=features.dtype)
    value = (features * factors).sum() + pooled.square().sum()
    parameters = dict(backbone.named_parameters())
    grads = torch.autograd.grad(value, [x, *parameters.values()], allow_unused=True, materialize_grads=True)
    return {"features": features.detach(), "": grads[0], **dict(zip(parameters, grads[1:], strict=True))}


def reference_gradients(backbone: TinyConv, x: Tensor) -> dict[str, Tensor]:
    """As `value_and_gradients`, of TinyConv written down layer by layer."""

    class Reference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.stage = backbone.stem, backbone.stage

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            for (conv, norm, _), stride in ((self.stem, 1), (self.stage, 2)):
                x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
                statistics = (norm.running_mean, norm.running_var)
                x = F.batch_norm(x, *statistics, norm.weight, norm.bias, training=False, eps=norm.eps).relu()
            return x, x.mean(dim=(2, 3))

    return value_and_gradients(Reference(), x)


@pytest.mark.usefixtures("float64")
class TestATinyNetwork:
    @folded_or_not
    def test_value_and_gradient_match_batch_norm_with_fixed_statistics(self, fold: bool) -> None:
        backbone = tiny_backbone().train()
        with FrozenBatchNorm(backbone, fold=fold).in_force():
            ours = value_and_gradients(backbone, embedded(backbone))
            again = value_and_gradients(backbone, embedded(backbone))
        theirs = reference_gradients(backbone, embedded(backbone))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(again, ours, rtol=0, atol=0)

    @folded_or_not
    def test_follows_the_weights(self, fold: bool) -> None:
        backbone, other = tiny_backbone().train(), tiny_network(seed=2).backbone
        frozen = FrozenBatchNorm(backbone, fold=fold)
        with frozen.in_force():
            backbone(embedded(backbone))
            with torch.no_grad():
                for ours, theirs in zip(backbone.parameters(), other.parameters(), strict=True):
                    ours.copy_(theirs)
            after_a_step = value_and_gradients(backbone, embedded(backbone))
        torch.testing.assert_close(
            after_a_step, reference_gradients(backbone, embedded(backbone)), rtol=1e-10, atol=1e-12
        )
        backbone.load_state_dict(other.state_dict())  # with other statistics, as from a checkpoint
        with frozen.in_force():
            loaded = value_and_gradients(backbone, embedded(backbone))
        torch.testing.assert_close(loaded, reference_gradients(backbone, embedded(backbone)), rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("biased", [True, False])
    @pytest.mark.parametrize("affine", [True, False])
    def test_folds_with_and_without_bias_and_scale(self, biased: bool, affine: bool) -> None:
        backbone = tiny_backbone()
        backbone.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=biased), nn.BatchNorm2d(4, affine=affine), nn.ReLU(inplace=True)
        )
        backbone.train()(embedded(backbone))  # which gives it statistics
        results = []
        for fold in (True, False):
            frozen = FrozenBatchNorm(backbone, fold=fold)
            with frozen.in_force():
                results.append(value_and_gradients(backbone, embedded(backbone)))
            assert len(frozen._pairs) == (2 if fold else 0)
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)

    @folded_or_not
    def test_statistics_stay_to_the_bit_and_names_as_they_are(self, fold: bool) -> None:
        backbone = tiny_backbone().train()
        before = state_of(backbone)
        with FrozenBatchNorm(backbone, fold=fold).in_force():
            for step in range(3):
                backbone.train(step % 2 == 0)
                value_and_gradients(backbone, embedded(backbone))
                assert [name for name, _ in backbone.named_parameters()] == [
                    name for name in before if name in dict(backbone.named_parameters())
                ]
                torch.testing.assert_close(state_of(backbone), before, rtol=0, atol=0)
        torch.testing.assert_close(state_of(backbone), before, rtol=0, atol=0)

    @folded_or_not
    def test_only_batch_norm_is_in_evaluation_mode(self, fold: bool) -> None:
        backbone = tiny_backbone()
        backbone.extra = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3), nn.BatchNorm2d(2, track_running_stats=False))
        with FrozenBatchNorm(backbone, fold=fold).in_force():
            for mode in (True, False, True):
                assert backbone.train(mode) is backbone
                for module in backbone.modules():
                    is_frozen = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None
                    assert module.training == (mode and not is_frozen)
        backbone.train()
        assert all(module.training for module in backbone.modules())

    @folded_or_not
    def test_after_the_block_the_network_is_as_it_was(self, fold: bool) -> None:
        backbone = tiny_backbone().train()
        before = {module: set(vars(module)) for module in backbone.modules()}
        x = embedded(backbone)
        with FrozenBatchNorm(backbone, fold=fold).in_force():
            backbone(x)
        with pytest.raises(RuntimeError), FrozenBatchNorm(backbone, fold=fold).in_force():
            backbone(x[:, :2])
        assert {module: set(vars(module)) for module in backbone.modules()} == before
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())
        mean = backbone.stem[1].running_mean.clone()
        backbone.train()(embedded(backbone))
        assert not torch.equal(backbone.stem[1].running_mean, mean)

    def test_what_is_run_twice_or_read_elsewhere_is_left(self) -> None:
        for kind in (ReadByTwo, ReadPast):
            backbone = tiny_backbone(kind).train()
            results = []
            for fold in (True, False):
                frozen = FrozenBatchNorm(backbone, fold=fold)
                with frozen.in_force():
                    results.append(value_and_gradients(backbone, embedded(backbone)))
                assert frozen._pairs == []
            torch.testing.assert_close(*results, rtol=0, atol=0)

    def test_in_a_network_without_it_nothing_happens(self) -> None:
        backbone = tiny_network(kind=TinyTokens).backbone.train()
        inputs = backbone.embed(tiny_batch(tokens=True).inputs)
        expected = backbone(inputs)
        with FrozenBatchNorm(backbone, fold=True).in_force():
            assert all(torch.equal(*pair) for pair in zip(backbone(inputs), expected, strict=True))
            assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize("name", [name for name, num_pairs in ARCHITECTURES.items() if num_pairs])
def test_every_architecture_says_the_same_folded(name: str) -> None:
    """In training mode, with dropout and stochastic depth, in value and gradient."""
    network = network_with_statistics(name)
    backbone = network.backbone
    x = network.embed(uint8_images(2))
    results: list[dict[str, Any]] = []
    for fold in (True, False):
        frozen = FrozenBatchNorm(backbone, fold=fold)
        with frozen.in_force():
            torch.manual_seed(5)
            results.append(value_and_gradients(backbone, x))
        assert len(frozen._pairs) == (ARCHITECTURES[name] if fold else 0)
    for key, exact in results[1].items():
        assert (results[0][key] - exact).norm() <= 1e-9 * exact.norm() + 1e-12 * results[1][""].norm(), key
