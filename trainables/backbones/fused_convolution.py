"""Fused convolution and activation for inference: the output is written to memory once."""

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
"""Activations that oneDNN can apply to the output of a convolution: PyTorch's name for them, and their parameters."""


class Packed(NamedTuple):
    """A kernel in the memory layout of oneDNN, and its padding (height, width).

    It is valid for `weight` at `version` (its counter of changes in place), and for inputs of `shape`.
    """

    kernel: Tensor
    padding: Sequence[int]
    weight: Tensor
    version: int
    shape: torch.Size

    def holds(self, weight: Tensor, shape: torch.Size) -> bool:
        """Whether it is valid for this weight, unchanged, and for inputs of this shape."""
        return self.weight is weight and self.version == weight._version and self.shape == shape


class FusedConvolution(nn.Module):
    """`activation(conv(x))`, in one oneDNN operation on the CPU in fp32, and in two operations otherwise.

    A convolution with TensorFlow's "same" padding, which is larger on one side, would copy its input into a larger
    tensor; its kernel is extended by zeros instead. The kernel is converted to oneDNN's layout once, and again only
    after it has changed.

    The operators are those to which torch.compile lowers such a pair. They are not a public interface of PyTorch, so
    callers compare the result with that of the two operations (see `FoldedNetwork`).
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation
        set_in_place(activation, True)  # overwrites the convolution's output, which no gradient needs
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
    """Whether its padding is with zeros and symmetric, or can be made so."""
    if isinstance(conv, Conv2dSame):
        return conv.dilation == (1, 1)
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _for_onednn(inputs: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # torch.compile fuses the two itself
    )


def _packed(conv: nn.Conv2d, shape: torch.Size) -> Packed:
    assert not isinstance(conv.padding, str)  # ensured by _is_plain
    weight, padding = _padded(conv, shape) if isinstance(conv, Conv2dSame) else (conv.weight, conv.padding)
    kernel = torch.ops.mkldnn._reorder_convolution_weight(
        weight.detach(), padding, conv.stride, conv.dilation, conv.groups, list(shape)
    )
    return Packed(kernel, padding, conv.weight, conv.weight._version, shape)


def _padded(conv: Conv2dSame, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
    """Kernel and symmetric padding that give the output of the convolution for inputs of that shape.

    If the padding at the end is larger by e, e zeros before the kernel have the same effect.
    """
    left, right, above, below = pad_same_arg(list(shape[2:]), list(conv.kernel_size), list(conv.stride))
    return F.pad(conv.weight, (right - left, 0, below - above, 0)), (below, right)
