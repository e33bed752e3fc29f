"""Training with frozen BatchNorm: normalisation by the pre-trained running statistics, which stay as they are.

A convolution and the normalisation after it are then one convolution, in the values and in the gradients of all four
trained tensors:  γ·(W∗x + b − μ)/√(σ²+ε) + β  =  (s·W)∗x + s·(b − μ) + β  with s = γ/√(σ²+ε).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.backbones.batchnorm_folding import NUM_PROBE_EXAMPLES, is_close, pairs_in, without_tf32
from trainables.backbones.network import in_evaluation_mode


class FoldablePair(NamedTuple):
    """A convolution, and the normalisation that is the only reader of its output."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d


class FrozenBatchNorm:
    """Freezes the BatchNorms with running statistics of `networks`, the first of which is the trained backbone.

    In `in_force()` they are in evaluation mode, whatever `train()` is called on; other modules, those within a
    BatchNorm of timm's (dropout, activation) included, follow `train()`. With `fold`, each pair of a convolution and
    its normalisation in the backbone is computed as one convolution, whose kernel follows from the trained tensors in
    every forward pass. Parameters, buffers and their names stay as they are, but a forward hook of such a convolution
    would be given the normalised output.

    As in `FoldedNetwork`, the pairs are found on the first inputs, where the outputs are compared with those of the
    backbone; if they differ, nothing is folded.
    """

    def __init__(self, *networks: nn.Module, fold: bool) -> None:
        self._networks = networks
        self._norms = [m for network in networks for m in network.modules() if _has_statistics(m)]
        self._pairs: list[FoldablePair] | None = None if fold and self._norms else []

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Freezes inside the block. After it, they are in evaluation mode until the next call of `train()`."""
        for norm in self._norms:
            vars(norm)["train"] = _train_of_children(norm)  # hides the method of the class
            norm.training = False
        search = None
        if self._pairs is None:
            search = self._networks[0].register_forward_pre_hook(lambda _, given: self._find_pairs(given[0]))
        else:
            _fold(self._pairs)
        try:
            yield
        finally:
            for norm in self._norms:
                del vars(norm)["train"]
            _unfold(self._pairs or [])
            if search is not None:
                search.remove()

    @torch.no_grad()
    def _find_pairs(self, embedded: Tensor) -> None:
        """Finds and folds the pairs before the first of all forward passes. Draws nothing, and changes no mode."""
        if self._pairs is not None:
            return
        self._pairs = []
        backbone, few = self._networks[0], embedded[:NUM_PROBE_EXAMPLES]
        with in_evaluation_mode(backbone):
            pairs = [_pair_at(backbone, *names) for names in pairs_in(backbone, few)]
            with torch.autocast(few.device.type, enabled=False), without_tf32():
                exact = backbone(few)
                _fold(pairs)
                alike = is_close(exact, backbone(few))
        if alike:
            self._pairs = pairs
        else:
            _unfold(pairs)


def _has_statistics(module: nn.Module) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _train_of_children(norm: nn.Module) -> Callable[..., nn.Module]:
    def train(mode: bool = True) -> nn.Module:
        type(norm).train(norm, mode)
        norm.training = False
        return norm

    return train


def _pair_at(backbone: nn.Module, conv_name: str, norm_name: str) -> FoldablePair:
    conv, norm = backbone.get_submodule(conv_name), backbone.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return FoldablePair(conv, norm)


def _fold(pairs: Iterable[FoldablePair]) -> None:
    for conv, norm in pairs:
        vars(conv)["forward"] = _forward_of_both(conv, norm)  # hides the method of the class
        vars(norm)["forward"] = _forward_of_children(norm)


def _unfold(pairs: Iterable[FoldablePair]) -> None:
    for module in (module for pair in pairs for module in pair):
        del vars(module)["forward"]


@torch.no_grad()
def _forward_of_both(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """The function `norm(conv(x))` with the present statistics, without what timm's norm has besides."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    inverse_C = (norm.running_var + norm.eps).rsqrt()
    mean_C = norm.running_mean

    def forward(x: Tensor) -> Tensor:
        scale_C = inverse_C if norm.weight is None else inverse_C * norm.weight
        shift_C = -mean_C * scale_C if conv.bias is None else (conv.bias - mean_C) * scale_C
        if norm.bias is not None:
            shift_C = shift_C + norm.bias
        y = _convolved(conv, x, conv.weight * scale_C.view(-1, 1, 1, 1), shift_C.detach())
        with_gradient: Tensor = _WithGradientOfBias.apply(y, shift_C)
        return with_gradient

    return forward


def _forward_of_children(norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        for then in norm.children():  # of timm's: dropout and activation
            x = then(x)
        return x

    return forward


def _convolved(conv: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution of `conv`, a Conv2d or timm's Conv2dSame, with another kernel and bias."""
    if isinstance(conv, Conv2dSame):
        y: Tensor = conv2d_same(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # type: ignore[arg-type]
    else:
        y = conv._conv_forward(x, weight, bias)
    return y


class _WithGradientOfBias(torch.autograd.Function):
    """Returns `y`, the output of a convolution with a constant bias, with the gradient that the bias has.

    oneDNN computes a bias's gradient along with the kernel's, and takes longer for it than a sum does.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias_C: Tensor) -> Tensor:
        ctx.mark_dirty(y)  # the very tensor, which an activation may overwrite
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor]:
        return grad_y, grad_y.sum(dim=(0, 2, 3))
