"""How much the loss rises when one filter is removed: which channels of a pre-trained network matter to a target task.

A filter's removal is that of its weights; its bias stays. The whole computation runs on a network that stays as it is.
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
"""Images that go through the network at once, whole or from a stage's end on."""

BATCH_SIZE = 64
"""Examples on which a loss is measured at once, and of the head's training."""


class Layer(NamedTuple):
    """The last layer of a stage: the name of its module in the backbone, and the stage, counted from 0."""

    name: str
    stage: int
    num_filters: int


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, what `module` gives is changed."""
    handle = module.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def captured(backbone: Backbone, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules `names` give inside the block: copies, for a network may go on in place (VGG's ReLU does)."""
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
    """The convolution or linear layer that each stage ends with, in the order of running, shortcuts left aside.

    Layers on pooled maps (squeeze and excitation) are not meant; a stage without any layer has no entry.
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
    """Trains a head alone on features that stay as they are, by SGD; the rate falls exponentially, from 0.01.

    It is a tenth after 60 % of the steps, as in DELTA's authors' code. The draws are at (seed, "delta", "head", epoch).
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
    """softmax(z/5) of the increases' z-scores: sums to 1; uniform where no channel differs."""
    deviation = increases_C.std(correction=0)
    scores = (increases_C - increases_C.mean()) / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
    return (scores / 5).softmax(dim=0)


@torch.no_grad()
def loss_increases(backbone: Backbone, head: nn.Module, layer: Layer, embedded: Tensor, labels: Tensor) -> Tensor:
    """For each filter of `layer`, how much the mean cross-entropy rises when the filter is removed.

    What follows the layer decides how much must be run again. Where channels stay apart up to the pooled features, two
    passes say everything: only one pooled channel changes. Where they do up to the end of their stage, the rest of the
    network is run for each filter; where not, all from the end of the stage before. Filters share passes, one after the
    other along the batch; the front of the network sees a single image then.
    """
    module, end = backbone.get_submodule(layer.name), backbone.stages[layer.stage]
    half = torch.arange(layer.num_filters, device=labels.device) % 2 == 0
    none = torch.zeros_like(half)
    seen = []
    for removed in (none, ~none, half):
        with removing(module, removed), captured(backbone, [end]) as outputs:
            seen.append((backbone(embedded)[1], outputs[end]))
    pooled, ends = zip(*seen, strict=True)
    if _stay_apart(pooled, half, dim=1):
        losses = _without_pooled_channels(head, pooled[0], pooled[1], labels)
    else:
        losses = _without_filters(backbone, head, layer, embedded, labels, ends, half)
    return losses - F.cross_entropy(head(pooled[0]), labels)


def _without_pooled_channels(head: nn.Module, pooled_ND: Tensor, gone_ND: Tensor, labels: Tensor) -> Tensor:
    """Mean losses with pooled channel after pooled channel replaced; logits are linear in it."""
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
    """Mean losses with filter after filter removed. `ends` is the stage's end with all, no and `half` the filters."""
    whole, gone, _ = ends
    num_filters = len(half)
    dim = 1 if whole.ndim == 4 and whole.shape[1] == num_filters else -1
    apart = _stay_apart(ends, half, dim)
    module = backbone.get_submodule(layer.name)
    before = embedded
    if not apart and layer.stage:
        with captured(backbone, [backbone.stages[layer.stage - 1]]) as outputs:
            backbone(embedded)
        (before,) = outputs.values()

    losses = []
    for filters in torch.split(torch.arange(num_filters, device=labels.device), max(1, ROWS_PER_PASS // len(labels))):
        removed_FC = F.one_hot(filters, num_filters).bool()
        if apart:
            rows = torch.where(_along(removed_FC, whole.ndim, dim).unsqueeze(1), gone, whole).flatten(0, 1)
            pooled = _pooled_from(backbone, layer.stage, rows, embedded)
        else:
            rows = before.repeat(len(filters), *[1] * (before.ndim - 1))
            with removing(module, removed_FC.repeat_interleave(len(labels), dim=0)):
                pooled = _pooled_from(backbone, layer.stage - 1, rows, embedded)
        losses.append(_mean_losses(head(pooled), labels))
    return torch.cat(losses)


def _pooled_from(backbone: Backbone, stage: int, rows: Tensor, embedded: Tensor) -> Tensor:
    """Pooled features of `rows` at the end of `stage` (−1: of embedded inputs)."""
    if stage < 0:
        pooled: Tensor = backbone(rows)[1]
        return pooled
    with hooked(backbone.get_submodule(backbone.stages[stage]), lambda _: rows):
        pooled = backbone(embedded[:1])[1]
    return pooled


def _mean_losses(logits: Tensor, labels_N: Tensor) -> Tensor:
    """Rows of N examples after N examples → the mean loss of each N."""
    num = len(logits) // len(labels_N)
    return F.cross_entropy(logits, labels_N.repeat(num), reduction="none").view(num, -1).mean(dim=1)


def _stay_apart(seen: Sequence[Tensor], half: Tensor, dim: int) -> bool:
    """Whether without half of the filters that half of the channels is as without all, and the others as with all.

    `seen` is what comes with all filters, without any, and without `half`.
    """
    whole, gone, half_gone = seen
    if whole.shape[dim] != len(half):
        return False
    expected = torch.where(_along(half, whole.ndim, dim), gone, whole)
    rounding = 16 * torch.finfo(whole.dtype).eps * whole.abs().max()
    return bool((half_gone - expected).abs().max() <= 1e-3 * (gone - whole).abs().max() + rounding)


@contextmanager
def removing(layer: nn.Module, removed: Tensor) -> Iterator[None]:
    """Inside the block, `layer` lacks the filters that `removed` C (or rows×C, an own choice for each row) says."""
    dim = 1 if isinstance(layer, nn.Conv2d) else -1
    bias = getattr(layer, "bias", None)

    def without(output: Tensor) -> Tensor:
        left = output.new_zeros(()) if bias is None else _along(bias, output.ndim, dim)
        return torch.where(_along(removed, output.ndim, dim), left, output)

    with hooked(layer, without):
        yield


def _along(x: Tensor, ndim: int, dim: int) -> Tensor:
    """C or rows×C, such that it broadcasts to a tensor of `ndim` dimensions with its channels at `dim`."""
    shape = [1] * ndim
    shape[dim] = x.shape[-1]
    shape[0] = len(x) if x.ndim == 2 else shape[0]
    return x.reshape(shape)
