"""Channel attention of DELTA: the increase of the target loss if one filter of the pre-trained network is removed.

Removing a filter sets its weights to zero and keeps its bias. The network itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import Backbone
from trainables.seeding import rng_for

ROWS_PER_PASS = 128
"""Number of images in one forward pass, of the whole network or from the end of a stage."""

BATCH_SIZE = 64
"""Number of examples of one measurement of the loss, and of one step of the head's training."""


class Layer(NamedTuple):
    """The last layer of a stage: the name of its module in the backbone, and the stage, counted from 0."""

    name: str
    stage: int
    num_filters: int


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replaces the output of `module` by `change(output)` inside the block."""
    handle = module.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def captured(backbone: Backbone, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collects copies of the outputs of the modules `names` inside the block.

    They are copies because the next layer may work in place, as VGG's ReLU does.
    """
    outputs: dict[str, Tensor] = {}
    handles = [
        backbone.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: outputs.__setitem__(name, output.clone())
        )
        for name in names
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def last_layers(backbone: Backbone, embedded: Tensor) -> list[Layer]:
    """The last convolution or linear layer of each stage, in the order of execution, without those of shortcuts.

    Layers on pooled maps (squeeze and excitation) are left out; a stage without any layer has no entry.
    """
    found: list[Layer] = []
    latest: list[tuple[str, int]] = []

    def on_layer(name: str, output: Tensor) -> None:
        latest.append((name, _side(output)))

    def on_stage(stage: int, output: Tensor) -> None:
        of_map = [name for name, side in latest if side == _side(output)]
        if of_map:
            filters = backbone.get_submodule(of_map[-1]).get_parameter("weight")
            found.append(Layer(of_map[-1], stage, len(filters)))
        latest.clear()

    handles = []
    for name, module in backbone.named_modules():
        is_shortcut = any(part in ("downsample", "shortcut") for part in name.split("."))
        if isinstance(module, nn.Conv2d | nn.Linear) and not is_shortcut:
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: on_layer(name, output)))
    for stage, name in enumerate(backbone.stages):
        module = backbone.get_submodule(name)
        handles.append(module.register_forward_hook(lambda _, __, output, stage=stage: on_stage(stage, output)))
    backbone(embedded[:1])
    for handle in handles:
        handle.remove()
    return found


def _side(output: Tensor) -> int:
    """W of N×C×H×W and N×H×W×C alike, T of tokens."""
    match output.ndim:
        case 4:
            return output.shape[2]
        case 3:
            return output.shape[1]
        case _:
            return 1


def train_head(head: nn.Linear, pooled_ND: Tensor, labels_N: Tensor, num_steps: int, seed: int) -> None:
    """Trains a head on fixed features N×D by SGD, with a learning rate that decays exponentially from 0.01.

    It is a tenth after 60 % of the steps, as in the authors' code. The draws are at (seed, "delta", "head", epoch).
    """
    batch_size = min(BATCH_SIZE, len(labels_N))
    per_epoch = len(labels_N) // batch_size
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for step in range(num_steps):
        epoch, batch = divmod(step, per_epoch)
        if batch == 0:
            order = torch.from_numpy(rng_for(seed, "delta", "head", epoch).permutation(len(labels_N)))
        chosen = order[batch * batch_size : (batch + 1) * batch_size].to(labels_N.device)
        optimizer.param_groups[0]["lr"] = 0.01 * 0.1 ** (step / (0.6 * num_steps))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(head(pooled_ND[chosen]), labels_N[chosen]))
        optimizer.step()


def attention(increases_C: Tensor) -> Tensor:
    """Attention C of the channels: softmax(z/5) of the z-scores of the loss increases C; uniform if all are equal."""
    deviation = increases_C.std(correction=0)
    scores = (increases_C - increases_C.mean()) / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
    return (scores / 5).softmax(dim=0)


@torch.no_grad()
def loss_increases(backbone: Backbone, head: nn.Module, layer: Layer, embedded: Tensor, labels: Tensor) -> Tensor:
    """Increase C of the mean cross-entropy if each filter of `layer` is removed.

    How much is computed again depends on what follows the layer. If channels are separate up to the pooled features,
    two forward passes are enough, as only one pooled channel changes. If they are separate up to the end of their
    stage, the rest of the network runs for each filter; otherwise everything from the end of the stage before. Several
    filters share a forward pass, one after the other along the batch; the front of the network then runs on one image.
    """
    module, end = backbone.get_submodule(layer.name), backbone.stages[layer.stage]
    half = torch.arange(layer.num_filters, device=labels.device) % 2 == 0
    none = torch.zeros_like(half)
    passes = []
    for removed in (none, ~none, half):
        with removing(module, removed), captured(backbone, [end]) as outputs:
            passes.append((backbone(embedded)[1], outputs[end]))
    pooled, ends = zip(*passes, strict=True)
    if _are_separate(pooled, half, dim=1):
        losses = _without_pooled_channels(head, pooled[0], pooled[1], labels)
    else:
        losses = _without_filters(backbone, head, layer, embedded, labels, ends, half)
    return losses - F.cross_entropy(head(pooled[0]), labels)


def _without_pooled_channels(head: nn.Module, pooled_ND: Tensor, gone_ND: Tensor, labels: Tensor) -> Tensor:
    """Mean losses C with each pooled channel replaced in turn; the logits are linear in it."""
    num_features = pooled_ND.shape[1]
    logits_NK, weight_KD = head(pooled_ND), head.get_parameter("weight")
    losses = []
    for channels in torch.split(torch.arange(num_features, device=labels.device), ROWS_PER_PASS):
        moved_NC = (gone_ND - pooled_ND)[:, channels]
        logits_CNK = logits_NK + moved_NC.T.unsqueeze(2) * weight_KD.T[channels].unsqueeze(1)
        losses.append(_mean_losses(logits_CNK.flatten(0, 1), labels))
    return torch.cat(losses)


def _without_filters(
    backbone: Backbone,
    head: nn.Module,
    layer: Layer,
    embedded: Tensor,
    labels: Tensor,
    ends: tuple[Tensor, ...],
    half: Tensor,
) -> Tensor:
    """Mean losses C with each filter removed in turn.

    `ends` are the outputs of the stage with all filters, without any, and without `half`.
    """
    whole, gone, _ = ends
    num_filters = len(half)
    dim = 1 if whole.ndim == 4 and whole.shape[1] == num_filters else -1
    separate = _are_separate(ends, half, dim)
    module = backbone.get_submodule(layer.name)
    before = embedded
    if not separate and layer.stage:
        with captured(backbone, [backbone.stages[layer.stage - 1]]) as outputs:
            backbone(embedded)
        (before,) = outputs.values()

    losses = []
    for filters in torch.split(torch.arange(num_filters, device=labels.device), max(1, ROWS_PER_PASS // len(labels))):
        removed_FC = F.one_hot(filters, num_filters).bool()
        if separate:
            rows = torch.where(_along(removed_FC, whole.ndim, dim).unsqueeze(1), gone, whole).flatten(0, 1)
            pooled = _pooled_from(backbone, layer.stage, rows, embedded)
        else:
            rows = before.repeat(len(filters), *[1] * (before.ndim - 1))
            with removing(module, removed_FC.repeat_interleave(len(labels), dim=0)):
                pooled = _pooled_from(backbone, layer.stage - 1, rows, embedded)
        losses.append(_mean_losses(head(pooled), labels))
    return torch.cat(losses)


def _pooled_from(backbone: Backbone, stage: int, rows: Tensor, embedded: Tensor) -> Tensor:
    """Pooled features of `rows`, which are outputs of `stage` (−1: embedded inputs)."""
    if stage < 0:
        pooled: Tensor = backbone(rows)[1]
        return pooled
    with hooked(backbone.get_submodule(backbone.stages[stage]), lambda _: rows):
        pooled = backbone(embedded[:1])[1]
    return pooled


def _mean_losses(logits: Tensor, labels_N: Tensor) -> Tensor:
    """Logits (F·N)×K → the mean losses F over each N consecutive examples."""
    num = len(logits) // len(labels_N)
    return F.cross_entropy(logits, labels_N.repeat(num), reduction="none").view(num, -1).mean(dim=1)


def _are_separate(outputs: Sequence[Tensor], half: Tensor, dim: int) -> bool:
    """Whether each channel of an output depends on its own filter alone.

    `outputs` are those with all filters, without any, and without `half`: in the last, the channels of `half` have to
    be as without any filter, and the others as with all.
    """
    whole, gone, half_gone = outputs
    if whole.shape[dim] != len(half):
        return False
    expected = torch.where(_along(half, whole.ndim, dim), gone, whole)
    rounding = 16 * torch.finfo(whole.dtype).eps * whole.abs().max()
    return bool((half_gone - expected).abs().max() <= 1e-3 * (gone - whole).abs().max() + rounding)


@contextmanager
def removing(layer: nn.Module, removed: Tensor) -> Iterator[None]:
    """Removes the filters in the mask `removed` C from `layer` inside the block; rows×C is a mask for each row."""
    dim = 1 if isinstance(layer, nn.Conv2d) else -1
    bias = getattr(layer, "bias", None)

    def without(output: Tensor) -> Tensor:
        left = output.new_zeros(()) if bias is None else _along(bias, output.ndim, dim)
        return torch.where(_along(removed, output.ndim, dim), left, output)

    with hooked(layer, without):
        yield


def _along(x: Tensor, ndim: int, dim: int) -> Tensor:
    """Reshapes C or rows×C to broadcast with a tensor of `ndim` dimensions whose channels are at `dim`."""
    shape = [1] * ndim
    shape[dim] = x.shape[-1]
    shape[0] = len(x) if x.ndim == 2 else shape[0]
    return x.reshape(shape)
