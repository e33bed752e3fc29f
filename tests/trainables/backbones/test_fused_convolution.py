"""A fused convolution equals the convolution and its activation in sequence, in every implementation."""

from __future__ import annotations

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from trainables.backbones.fused_convolution import POST_OPS, FusedConvolution
from trainables.seeding import torch_seeded

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
OPERATOR = "mkldnn::_convolution_pointwise"


def inputs(height: int, width: int, channels: int = 4) -> Tensor:
    with torch_seeded(0, "inputs"):
        return 4 * torch.randn(3, channels, height, width)


def drawn(conv: nn.Conv2d) -> nn.Conv2d:
    with torch_seeded(0, "conv"), torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_()
    return conv


def fused(layer: FusedConvolution, given: Tensor) -> tuple[Tensor, bool]:
    """The output, and whether oneDNN computed it in one operation."""
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        output = layer(given)
    return output, any(event.key == OPERATOR for event in profile.key_averages())


def assert_same(layer: FusedConvolution, given: Tensor) -> None:
    """In float64, which oneDNN does not compute, to rounding of float32."""
    output, at_once = fused(layer, given)
    layer, given = layer.double(), given.double()
    exact, _ = fused(layer, given)
    assert at_once
    assert output.dtype == torch.float32
    assert output.shape == exact.shape
    assert (output - exact).norm() <= 1e-6 * exact.norm()


@pytest.mark.parametrize("kind", POST_OPS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_activation(kind: type[nn.Module], bias: bool) -> None:
    conv = drawn(nn.Conv2d(4, 6, 3, stride=2, padding=(1, 2), groups=2, bias=bias))
    layer = FusedConvolution(conv, kind())
    assert_same(layer, inputs(9, 8))
    assert torch.equal(layer(inputs(9, 8).double()), kind()(conv(inputs(9, 8).double())))


@pytest.mark.parametrize("kernel", [1, 3, 5, (3, 5)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 11), (2, 3)])
def test_padding_to_same_at_every_size(kernel: int, stride: int, size: tuple[int, int]) -> None:
    layer = FusedConvolution(drawn(Conv2dSame(4, 4, kernel, stride=stride, groups=4)), nn.ReLU6())
    assert_same(layer, inputs(*size))


def test_follows_weights_and_sizes_that_change() -> None:
    """What it keeps is of the weights and inputs that it was made for."""
    layer = FusedConvolution(drawn(Conv2dSame(4, 4, 3, stride=2)), nn.ReLU6())
    conv = layer.conv

    def other_values() -> None:
        conv.weight.mul_(2)

    def another_tensor() -> None:
        conv.weight = nn.Parameter(conv.weight.flip(2))

    with torch.no_grad():
        for change in (lambda: None, other_values, another_tensor):
            change()
            for size in ((8, 8), (9, 8), (8, 8)):
                output, at_once = fused(layer, inputs(*size))
                assert at_once
                torch.testing.assert_close(output, layer.activation(conv(inputs(*size))), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        Conv2dSame(4, 4, 3, stride=1, dilation=2),
    ],
    ids=["same", "reflected", "dilated"],
)
def test_a_padding_that_onednn_does_not_know_is_left_to_the_convolution(conv: nn.Conv2d) -> None:
    output, at_once = fused(FusedConvolution(drawn(conv), nn.ReLU6()), inputs(8, 8))
    assert not at_once
    assert torch.equal(output, nn.ReLU6()(conv(inputs(8, 8))))


def test_an_unknown_activation_is_left_alone() -> None:
    layer = FusedConvolution(drawn(nn.Conv2d(4, 4, 3)), nn.PReLU())
    output, at_once = fused(layer, inputs(8, 8))
    assert not at_once
    assert torch.equal(output, layer.activation(layer.conv(inputs(8, 8))))


def test_autocast_goes_its_own_way() -> None:
    layer = FusedConvolution(drawn(nn.Conv2d(4, 4, 3)), nn.ReLU())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, at_once = fused(layer, inputs(8, 8))
    assert not at_once
    assert output.dtype == torch.bfloat16
