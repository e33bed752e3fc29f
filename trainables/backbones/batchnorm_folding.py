"""BatchNorm folding: in evaluation mode a BatchNorm is affine, and is merged into the convolution before it.

conv then norm:  γ·(W∗x + b − μ)/√(σ²+ε) + β  =  (s·W)∗x + s·(b − μ) + β  with s = γ/√(σ²+ε)

This module finds the pairs, and folds them again, all together, when their weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from trainables.backbones.copying import structural_copy
from trainables.backbones.fused_convolution import FusedConvolution
from trainables.backbones.network import ImageBackbone, TransferNetwork
from trainables.types import CompileMode, SourceOutputs

TOLERANCE = 1e-3
"""Largest relative difference of the features of a folded network. It is 3e-6 in fp32; a wrong fold, of a convolution
whose output has another reader, is off by the order of magnitude of the features."""
NUM_PROBE_EXAMPLES = 2
"""Number of examples on which the pairs are found and the folded network is compared with the original."""


class Pair(NamedTuple):
    """A convolution, the normalisation that is its only reader, and the convolution that replaces both."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    both: nn.Conv2d


class FoldedNetwork:
    """Forward pass of a frozen network in evaluation mode with its BatchNorms folded: on the CPU a quarter faster.

    The network itself is not changed. Its weights may change in place: they are folded again at the next call, all
    pairs together. Within autocast the folded weights and the source head are kept in its type: what takes no gradient
    would otherwise be cast at every call. There is no target head. The pairs of convolution and normalisation are found
    on the first inputs, where the outputs are compared with those of the network; if they differ by more than
    `TOLERANCE`, nothing is folded.
    """

    def __init__(self, network: TransferNetwork, compile: CompileMode = "none") -> None:
        self._network = network
        self._compile = compile
        self._folded: TransferNetwork | None = None
        self._pairs: list[Pair] = []
        self._folded_version, self._folded_type = -1, torch.float32

    @torch.no_grad()
    def __call__(self, inputs: Tensor, embedded: Tensor | None = None) -> SourceOutputs:
        """Computes the outputs for raw inputs N×…, without gradients.

        `embedded` are the same inputs as another network has embedded them; they are used if that needs no weights.
        """
        if self._folded is None:
            self._fold(inputs[:NUM_PROBE_EXAMPLES])
        assert self._folded is not None
        self.refresh(_computing_type(inputs.device))
        if embedded is None or not isinstance(self._network.backbone, ImageBackbone):
            embedded = self._network.embed(inputs)
        features, pooled = self._folded.backbone(embedded)
        head = self._folded.source_head
        return SourceOutputs(features, pooled, None if head is None else head(pooled))

    @property
    def folded_norms(self) -> tuple[int, int]:
        """Number of BatchNorms that are folded, after the first call, and of all of the backbone."""
        return len(self._pairs), sum(isinstance(each, nn.BatchNorm2d) for each in self._network.backbone.modules())

    def _fold(self, inputs: Tensor) -> None:
        with torch.autocast(inputs.device.type, enabled=False), without_tf32():
            embedded = self._network.embed(inputs)
            names = pairs_in(self._network.backbone, embedded)
            folded = structural_copy(self._network)
            pairs = [_replaced(self._network.backbone, folded.backbone, *pair) for pair in names]
            _refresh(pairs, torch.float32)
            if pairs and not is_close(self._network.backbone(embedded), folded.backbone(embedded)):
                folded, pairs = structural_copy(self._network), []
            if self._compile != "none":
                folded.backbone.compile(mode=self._compile)
        self._folded, self._pairs = folded, pairs
        self._folded_version, self._folded_type = self._version(), torch.float32

    @torch.no_grad()
    def refresh(self, computing: torch.dtype | None = None) -> None:
        """Folds the weights again if they, or the type `computing` of convolutions, have changed since.

        A call does so by itself; it is for whoever changes them, and records calls.
        """
        computing = computing or self._folded_type
        version = self._version()
        if self._folded_version != version or self._folded_type != computing:
            _refresh(self._pairs, computing)
            if self._folded is not None and self._network.source_head is not None:
                assert self._folded.source_head is not None
                _refresh_head(self._network.source_head, self._folded.source_head, computing)
            self._folded_version, self._folded_type = version, computing

    def forget(self) -> None:
        """Has the next call fold the weights again."""
        self._folded_version = -1

    def _version(self) -> int:
        """Sum of the version counters of the folded tensors, which grows with every change in place."""
        head = [] if self._network.source_head is None else [*self._network.source_head.parameters()]
        folded = [tensor for conv, norm, _ in self._pairs for tensor in _sources(conv, norm)]
        return sum(tensor._version for tensor in (*folded, *head))


def pairs_in(backbone: nn.Module, embedded: Tensor) -> list[tuple[str, str]]:
    """Names (convolution, normalisation that takes its output) of the pairs in which each runs once.

    Runs the backbone, which is in evaluation mode.
    """
    made: list[tuple[Tensor, str]] = []  # keeps the tensors alive, so that their identities stay unique
    took: list[tuple[str, str]] = []
    runs: list[str] = []
    hooks = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):

            def after(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                runs.append(name)
                made.append((output, name))

            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:

            def before(_: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                runs.append(name)
                took.extend((conv, name) for output, conv in made if output is given[0])

            hooks.append(module.register_forward_pre_hook(before))
    try:
        backbone(embedded)
    finally:
        for hook in hooks:
            hook.remove()
    convs = [conv for conv, _ in took]
    return [(conv, norm) for conv, norm in took if runs.count(conv) == runs.count(norm) == convs.count(conv) == 1]


def _replaced(backbone: nn.Module, folded: nn.Module, conv_name: str, norm_name: str) -> Pair:
    conv, norm, both = (
        backbone.get_submodule(conv_name),
        backbone.get_submodule(norm_name),
        folded.get_submodule(conv_name),
    )
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(both, nn.Conv2d)
    if isinstance(norm, BatchNormAct2d):  # timm's includes the activation; its dropout only acts in training
        act = folded.get_submodule(norm_name).act
        assert isinstance(act, nn.Module)
        folded.set_submodule(conv_name, FusedConvolution(both, act))
    folded.set_submodule(norm_name, nn.Identity())
    return Pair(conv, norm, both)


def _refresh(pairs: Sequence[Pair], computing: torch.dtype) -> None:
    """Folds the present weights of all pairs, in their own precision, and keeps them in the type `computing`; weights
    in float64 are kept as they are.

    A few operations on lists of tensors, which are as many kernels on a GPU, instead of a dozen for each pair.
    """
    if not pairs:
        return
    norms, convs = [pair.norm for pair in pairs], [pair.conv for pair in pairs]
    means = [norm.running_mean for norm in norms if norm.running_mean is not None]  # which `pairs_in` has seen to
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    scales = list(torch._foreach_add(variances, [norm.eps for norm in norms]))
    torch._foreach_sqrt_(scales)
    torch._foreach_reciprocal_(scales)
    shifts = list(torch._foreach_neg(means))
    _on_those(torch._foreach_add_, shifts, [conv.bias for conv in convs])
    _on_those(torch._foreach_mul_, scales, [norm.weight for norm in norms])
    torch._foreach_mul_(shifts, scales)
    _on_those(torch._foreach_add_, shifts, [norm.bias for norm in norms])
    weights = torch._foreach_mul([conv.weight for conv in convs], [scale.view(-1, 1, 1, 1) for scale in scales])
    for pair, weight, shift in zip(pairs, weights, shifts, strict=True):
        kept = computing if weight.dtype == torch.float32 else weight.dtype
        if pair.both.weight is pair.conv.weight or pair.both.weight.dtype != kept:
            # The copy initially shares the tensors of the network.
            layout = torch.channels_last if pair.conv.weight.is_contiguous(memory_format=torch.channels_last) else None
            weight = weight.to(kept) if layout is None else weight.to(kept, memory_format=layout)
            pair.both.weight = nn.Parameter(weight, requires_grad=False)
            pair.both.bias = nn.Parameter(shift.to(kept), requires_grad=False)
    both = [pair.both for pair in pairs]  # in place, as a CUDA graph keeps the addresses
    torch._foreach_copy_([each.weight for each in both], weights)
    torch._foreach_copy_([each.bias for each in both if each.bias is not None], shifts)


def _refresh_head(head: nn.Linear, cast: nn.Linear, computing: torch.dtype) -> None:
    """Casts the present weights of `head` to the type `computing`, in place where `cast` has it; in fp32, and in
    float64, it shares them."""
    kept = computing if head.weight.dtype == torch.float32 else head.weight.dtype
    if cast.weight.dtype == kept != head.weight.dtype:
        torch._foreach_copy_([*cast.parameters()], [*head.parameters()])
        return
    for name, tensor in head.named_parameters():
        setattr(cast, name, nn.Parameter(tensor.to(kept), requires_grad=False) if kept != tensor.dtype else tensor)


def _on_those(operation: Callable[..., object], targets: list[Tensor], operands: Sequence[Tensor | None]) -> None:
    """Applies an operation on lists in place where there is an operand."""
    pairs = [(target, operand) for target, operand in zip(targets, operands, strict=True) if operand is not None]
    if pairs:
        operation([target for target, _ in pairs], [operand for _, operand in pairs])


def _computing_type(device: torch.device) -> torch.dtype:
    """The type in which convolutions are computed now: that of autocast, or fp32."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else torch.float32


def _sources(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[Tensor]:
    tensors = (conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return [tensor for tensor in tensors if tensor is not None]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Computes convolutions and matrix products in fp32 inside the block, also on GPUs whose default is TF32.

    Its ten bits alone make the features of a network differ by 1e-3 to 1e-2, more than `TOLERANCE`.
    """
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


def is_close(exact: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> bool:
    """Whether features and pooled features differ by no more than `TOLERANCE`, relative to their norms."""
    return all(
        bool((mine - theirs).norm() <= TOLERANCE * theirs.norm()) for mine, theirs in zip(ours, exact, strict=True)
    )
