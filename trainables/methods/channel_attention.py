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


class Layer(NamedTuple):
    """The last layer of a stage. `name` is the module's in the backbone; `stage` counts from 0."""

    name: str
    stage: int


class Captured(dict[str, Tensor]):
    """Module name → what it gave in the latest pass."""


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


def channel_dim(module: nn.Module) -> int:
    """Where the channels of a layer's output are: a convolution's N×C×H×W, a linear layer's N×…×C."""
    return 1 if isinstance(module, nn.Conv2d) else -1


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
            found.append(Layer(of_map[-1], stage))
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
    """Trains a head alone on features that stay as they are: SGD, 0.01 falling to a tenth at 60 % and on, batches of 64.

    Its draws are at (seed, "delta", "head", epoch).
    """
    batch_size = min(64, len(labels_N))
    per_epoch = len(labels_N) // batch_size
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for step in range(num_steps):
        epoch, batch = divmod(step, per_epoch)
        if batch == 0:
            order = torch.from_numpy(rng_for(seed, "delta", "head", epoch).permutation(len(labels_N)))
        chosen = order[batch * batch_size : (batch + 1) * batch_size].to(labels_N.device)
        optimizer.param_groups[0]["lr"] = 0.01 * 0.1 ** (step / (0.6 * num_steps))
        optimizer.zero_grad()
        F.cross_entropy(head(pooled_ND[chosen]), labels_N[chosen]).backward()
        optimizer.step()


def attention(increases_C: Tensor) -> Tensor:
    """softmax(z/5) of the increases' z-scores: sums to 1; uniform where no channel differs."""
    deviation = increases_C.std(correction=0)
    scores = (increases_C - increases_C.mean()) / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
    return (scores / 5).softmax(dim=0)


@torch.no_grad()
def loss_increases(backbone: Backbone, head: nn.Linear, layer: Layer, embedded: Tensor, labels: Tensor) -> Tensor:
    """For each filter of `layer`, how much the mean cross-entropy rises when the filter is removed.

    What follows the layer decides how much must be run again. Where it treats channels apart up to the pooled features,
    two passes say everything: logits are linear in the one that changes. Where it does so up to the end of its stage,
    only the rest of the network is run for each filter; otherwise, all from the end of the stage before. In either
    case the filters share passes, one after the other along the batch, behind a single image that the front sees.
    """
    module = backbone.get_submodule(layer.name)
    end = backbone.stages[layer.stage]
    num_filters = int(module.weight.shape[0])
    some = torch.arange(num_filters, device=labels.device) % 2 == 0
    runs = []
    for removed in (torch.zeros_like(some), torch.ones_like(some), some):
        with hooked(module, lambda output, removed=removed: _without(module, output, removed)), captured(backbone, [end]) as at:
            runs.append((backbone(embedded)[1], at[end]))
    (pooled, whole), (pooled_gone, gone), (pooled_half, half) = runs
    losses = F.cross_entropy(head(pooled), labels)

    if pooled.shape[1] == num_filters and _is_by_channel(pooled_half, pooled, pooled_gone, some, 1):
        return _by_pooled_channel(head, pooled, pooled_gone, labels) - losses

    dim = 1 if whole.ndim == 4 and whole.shape[1] == num_filters else -1
    by_channel = whole.shape[dim] == num_filters and _is_by_channel(half, whole, gone, some, dim)
    ...
