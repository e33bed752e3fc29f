"""Ends of the stages of a network: the operations whose output is all that the rest of the network reads.

A stage is the part at one spatial resolution (in a transformer of tokens, a quarter of the blocks). The stem, the first
convolution and everything up to the first stage, is not counted. The last stage ends with the feature map.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, groupby, pairwise, takewhile
from typing import Any

import torch
from torch import Tensor, fx, nn


def ends_in_graph(graph: fx.Graph, model: nn.Module, outputs: dict[str, Any], size: int) -> tuple[str, ...]:
    """Ends of the stem and of the stages of a traced network, as names in `outputs`; () if they are not found.

    `graph` returns all of `outputs`: name → output of that operation for images of side `size`, in order. The last one
    is the feature map.
    """
    node_of: dict[str, fx.Node] = next(node for node in graph.nodes if node.op == "output").args[0]
    operations = list(outputs)
    place = {node_of[name]: position for position, name in enumerate(operations)}
    cuts = _passed_by_everything(graph, place, list(outputs.values()))
    layers = [place[node] for node in graph.nodes if node in place and _has_matrix(node, model)]
    features = len(operations) - 1
    if features not in cuts or len(layers) < 2:
        return ()
    stem = max((cut for cut in cuts if cut < layers[1]), default=-1)
    cuts = [cut for cut in cuts if cut > stem]
    if outputs[operations[-1]].ndim == 3:
        ends = _quarters([cuts[i] for i in _block_ends([operations[cut] for cut in cuts])])
    else:
        runs = groupby(cuts, lambda cut: _halvings(outputs[operations[cut]], size))
        ends = [_last_of_a_block(list(run), operations) for _, run in runs][:-1]
    ends = _with_layers([stem, *ends, features], layers)
    return tuple(operations[end] for end in ends)


def ends_in_modules(model: nn.Module, features: Callable[[], Tensor], listed: Sequence[str]) -> tuple[str, ...]:
    """Modules of `model` whose outputs are the ends of the stages: `listed` ones, and that of the feature map.

    `features` runs the model. Returns () if a listed module is not called, or if no module returns the map.
    """
    run = _watch(model, features)
    if not listed or len(run.layers) < 2 or not run.left.keys() >= set(listed):
        return ()
    containers = [name for name in listed if next(model.get_submodule(name).children(), None) is not None]
    ends = [name for name in containers or listed if run.left[name] > run.layers[1]]
    if run.map_ndim == 3:
        ends = _quarters(ends)
    if not ends:
        return ()
    moments = _with_layers([run.left[name] for name in ends], run.layers)
    ends = [name for name in ends if run.left[name] in moments]
    if ends[-1] not in run.yields_map:
        before = run.left[ends[-2]] if len(ends) > 1 else 0
        ends[-1:] = sorted(
            (name for name in run.yields_map if run.entered[name] > before), key=lambda name: run.entered[name]
        )[:1]
    return tuple(ends) if ends and ends[-1] in run.yields_map else ()


@dataclass
class _Run:
    """Times at which modules were entered and left with a tensor, and at which layers (with a kernel or matrix) ran."""

    entered: dict[str, int]
    left: dict[str, int]
    layers: list[int]
    yields_map: list[str]
    map_ndim: int


def _watch(model: nn.Module, features: Callable[[], Tensor]) -> _Run:
    entered: dict[str, int] = {}
    left: dict[str, int] = {}
    outputs: dict[str, Tensor] = {}
    clock = count()

    def enter(name: str) -> None:
        entered[name] = next(clock)

    def leave(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            left[name], outputs[name] = next(clock), output

    hooks: list[Any] = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
        hooks.append(module.register_forward_hook(lambda _, __, output, name=name: leave(name, output)))
    with torch.no_grad():
        map_seen = features()
    for hook in hooks:
        hook.remove()
    layers = [when for name, when in entered.items() if _is_layer(model.get_submodule(name))]
    return _Run(entered, left, layers, [name for name in left if outputs[name] is map_seen], map_seen.ndim)


def _is_layer(module: nn.Module) -> bool:
    return any(parameter.ndim in (2, 4) for parameter in module.parameters(recurse=False))


def _passed_by_everything(graph: fx.Graph, place: dict[fx.Node, int], values: list[Any]) -> list[int]:
    """Positions of the maps that every path from the input to the last position goes through."""
    flow: set[fx.Node] = set()
    cuts, needed_until = [], -1
    for node in graph.nodes:
        if node.op == "placeholder":
            flow.add(node)
        elif node in place and _has_tensor(values[place[node]]) and any(used in flow for used in node.all_input_nodes):
            flow.add(node)
            here = place[node]
            if needed_until <= here and _is_map(values[here]):
                cuts.append(here)
        if node in flow:
            uses = [place[user] for user in node.users if user in place and _has_tensor(values[place[user]])]
            needed_until = max([needed_until, *uses])
    return cuts


def _is_map(value: Any) -> bool:
    """Whether it is a map N×C×H×W or N×H×W×C of a square image, or tokens N×T×C."""
    if not isinstance(value, Tensor):
        return False
    sides = value.shape[1:]
    return len(sides) == 2 or (len(sides) == 3 and sides[1] in (sides[0], sides[2]))


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_has_tensor, value)))


def _has_matrix(node: fx.Node, model: nn.Module) -> bool:
    """Whether an operation has a kernel or a matrix: a convolution, a linear layer, attention."""
    if node.op == "call_module":
        return any(parameter.ndim in (2, 4) for parameter in model.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        owner, _, attribute = str(node.target).rpartition(".")
        value = getattr(model.get_submodule(owner), attribute)
        return isinstance(value, nn.Parameter) and value.ndim in (2, 4)
    return False


def _halvings(map_seen: Tensor, size: int) -> int:
    """Number of halvings of the image's side, rounded, as convolutions without padding lose a few pixels."""
    sides = map_seen.shape[2:] if map_seen.shape[2] == map_seen.shape[-1] else map_seen.shape[1:3]
    return round(math.log2(size / sides[0]))


def _last_of_a_block(cuts: list[int], operations: list[str]) -> int:
    """The last of the cuts at one resolution that is not inside the block which halves the resolution."""
    following = operations[min(cuts[-1] + 1, len(operations) - 1)].split(".")[:-1]

    def shared(cut: int) -> int:
        pairs = zip(operations[cut].split(".")[:-1], following, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    return min(reversed(cuts), key=shared)


def _block_ends(operations: list[str]) -> list[int]:
    """Positions of the last operations of the blocks, the modules that the network repeats most often."""
    owners = [name.rpartition(".")[0] for name in operations]
    last = {owner: position for position, owner in enumerate(owners)}
    kinds = {owner: re.sub(r"\d+", "#", owner) for owner in last if re.search(r"\d", owner)}
    most = Counter(kinds.values()).most_common(1)
    return [last[owner] for owner, kind in kinds.items() if kind == most[0][0]]


def _quarters(ends: list[Any]) -> list[Any]:
    return [ends[math.ceil(len(ends) * quarter / 4) - 1] for quarter in range(1, 5)] if len(ends) > 4 else ends


def _with_layers(ends: list[int], layers: list[int]) -> list[int]:
    """`ends` without those that only pooling and normalisation separate from the next."""
    return [*(end for end, later in pairwise(ends) if any(end < layer <= later for layer in layers)), ends[-1]]
