"""A convolution and the activation that follows it in one pass over memory, for networks that take no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn

from trainables.backbones.inplace import set_in_place

POST_OPS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
"""What oneDNN may do to a convolution's output before it is written: PyTorch's name for it, and its numbers."""


class Packed(NamedTuple):
    """A kernel in the order in which oneDNN reads it, and the padding (height, width) that it asks for.

    It stands for `weight` as that was at `version`, and for inputs of `shape`.
    """

    kernel: Tensor
    padding: Sequence[int]
    weight: Tensor
    version: int
    shape: torch.Size

    def holds(self, weight: Tensor, shape: torch.Size) -> bool:
        """Whether it can be used again."""
        return self.weight is weight and self.version == weight._version and self.shape == shape


class Activated(nn.Module):
    """`activation(conv(x))`, by oneDNN where it can: on the CPU in fp32, as a layer is then written once and not twice.

    A convolution that pads to "same" as TensorFlow does, on one side more than on the other, would copy its input into
    a larger one; its kernel is extended by zeros instead, which is a few numbers. The kernel is brought into oneDNN's
    order once, and not at every call, for as long as it stays.

    The operators are those to which torch.compile lowers such a pair. PyTorch promises nothing of them, so whoever uses
    this compares the outcome.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation
        set_in_place(activation, True)  # over what the convolution made: no gradient asks for it
        self._post_op = POST_OPS.get(type(activation)) if _is_plain(conv) else None
        self._packed: Packed | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        if self._post_op is None or not _for_onednn(inputs):
            activated: Tensor = self.activation(self.conv(inputs))
            return activated
        if self._packed is None or not self._packed.holds(self.conv.weight, inputs.shape):
            self._packed = _packed(self.conv, inputs.shape)
        conv, (name, numbers), (kernel, padding, *_) = self.conv, self._post_op, self._packed
        at_once: Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs, kernel, conv.bias, padding, conv.stride, conv.dilation, conv.groups, name, numbers, ""
        )
        return at_once


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether its padding is of zeros and of so many, or can be made so."""
    if isinstance(conv, Conv2dSame):
        return conv.dilation == (1, 1)
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _for_onednn(inputs: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # which fuses the two itself
    )


def _packed(conv: nn.Conv2d, shape: torch.Size) -> Packed:
    assert not isinstance(conv.padding, str)  # as _is_plain asked
    weight, padding = _padded(conv, shape) if isinstance(conv, Conv2dSame) else (conv.weight, conv.padding)
    kernel = torch.ops.mkldnn._reorder_convolution_weight(
        weight.detach(), padding, conv.stride, conv.dilation, conv.groups, list(shape)
    )
    return Packed(kernel, padding, conv.weight, conv.weight._version, shape)


def _padded(conv: Conv2dSame, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
    """Kernel and symmetric padding that do what the convolution does to inputs of that shape.

    Where the padding is larger behind, by e, a kernel with e zeros before it sees what the old one saw.
    """
    left, right, above, below = pad_same_arg(list(shape[2:]), list(conv.kernel_size), list(conv.stride))
    return F.pad(conv.weight, (right - left, 0, below - above, 0)), (below, right)
