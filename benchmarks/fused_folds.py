"""Three folds as one model, over three trainings one after the other: `python -m benchmarks.fused_folds`.

The networks' tensors are stacked (`torch.func.stack_module_state`), and `vmap` runs the folds' batches through all of
them at once: its rule for convolutions makes them grouped ones, for BatchNorm ones of three times the channels. A step
is a forward and a backward pass; the optimiser does the same either way.

fused_over_one_by_one    a step of all folds; the largest relative difference of a loss is printed
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.figures import Figure, paired_ratio, report, seconds_of
from trainables.backbones import build_network
from trainables.backbones.config import BackboneConfig
from trainables.trial import default_device

NUM_CLASSES = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where nothing is gained."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fused_folds")
    for name, default in (("size-px", 128), ("batch-size", 24), ("folds", 3), ("pairs", 8), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figure."""
    torch.set_num_threads(arguments.threads)
    device = default_device()
    backbone = BackboneConfig(name="package/efficientnet_lite0")
    networks = [
        build_network(backbone, NUM_CLASSES, seed, keep_source_head=False)
        .to(device)
        .to(memory_format=torch.channels_last)
        .train()
        for seed in range(arguments.folds)
    ]
    for network in networks:
        network.dropout.p = 0.0  # vmap would draw other numbers
    shape = (arguments.folds, arguments.batch_size, 3, arguments.size_px, arguments.size_px)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    labels = torch.randint(NUM_CLASSES, shape[:2]).to(device)
    inputs = torch.stack([network.embed(each) for network, each in zip(networks, images, strict=True)])
    ways = (fused(networks, inputs, labels), one_by_one(networks, inputs, labels))
    ours, theirs = (way() for way in ways)
    off = float(((ours - theirs) / theirs).abs().max())
    print(f"losses differ by {off:.1e}", flush=True)
    this, other = (partial(seconds_of, way) for way in ways)
    return [Figure("fused_over_one_by_one", paired_ratio(this, other, arguments.pairs), 1.0)]


def fused(networks: Sequence[nn.Module], inputs: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """A step of all networks in one pass; gives their losses."""
    parameters, buffers = stack_module_state(list(networks))
    skeleton = copy.deepcopy(networks[0]).to("meta")

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = functional_call(skeleton, (parameters, buffers), (inputs,)).target_logits
        return F.cross_entropy(logits, labels)

    together = vmap(loss)

    def step() -> Tensor:
        losses: Tensor = together(parameters, buffers, inputs, labels)
        torch.autograd.backward(losses.sum())
        return stepped(losses, parameters.values())

    return step


def one_by_one(networks: Sequence[nn.Module], inputs: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """A step of each network; gives their losses."""

    def step() -> Tensor:
        losses = []
        for network, x, y in zip(networks, inputs, labels, strict=True):
            losses.append(F.cross_entropy(network(x).target_logits, y))
            torch.autograd.backward(losses[-1])
        return stepped(torch.stack(losses), [p for network in networks for p in network.parameters()])

    return step


def stepped(losses: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """The losses, once the gradients are gone."""
    for parameter in parameters:
        parameter.grad = None
    return losses.detach()


if __name__ == "__main__":
    raise SystemExit(main())
