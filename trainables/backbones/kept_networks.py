"""Networks that a process keeps from one training to the next.

A training allocates a student, perhaps a teacher, and what follows from them. The next training of the same structure
copies its initial values into these tensors instead of allocating its own: a worker's memory does not grow with its
folds, and what is bound to the addresses of tensors (compiled code, CUDA graphs of torch.compile) stays valid.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.backbones.copying import clone

Kept = TypeVar("Kept")
Network = TypeVar("Network", bound=nn.Module)


class KeptNetworks:
    """Networks and optimiser state of the latest training, for the next one of the same structure.

    One training at a time uses them: `begin` ends the use of those before. A training for which nothing is kept
    allocates everything itself, with equal results.

    >>> kept, first = KeptNetworks(), nn.Linear(2, 3)
    >>> copied = kept.copy_of("teacher", first)
    >>> again = kept.copy_of("teacher", nn.Linear(2, 3))
    >>> again is copied, bool((again.weight == first.weight).all())
    (True, False)
    """

    def __init__(self) -> None:
        self._structure: Hashable = None
        self._kept: dict[Hashable, Any] = {}

    def begin(self, structure: Hashable) -> None:
        """Begins a training. What is kept is freed unless it is of an equal `structure`."""
        if self._kept and structure != self._structure:
            self._kept = {}
            gc.collect()  # torchvision's networks are in reference cycles
        self._structure = structure

    def get(self, name: Hashable, make: Callable[[], Kept]) -> Kept:
        """Returns what is kept under `name`, and makes and keeps it if there is nothing."""
        if name not in self._kept:
            self._kept[name] = make()
        kept: Kept = self._kept[name]
        return kept

    def find(self, name: Hashable) -> Any:
        """Returns what is kept under `name`; None if there is nothing."""
        return self._kept.get(name)

    def copy_of(self, name: Hashable, network: Network) -> Network:
        """Returns a copy of `network` with tensors of its own: the module kept under `name`, if it fits."""
        copied: Network = self.get(name, lambda: clone(network))
        if not poured(network, copied):
            copied = self._kept[name] = clone(network)
        return copied

    def share_state(self, optimizer: Optimizer) -> None:
        """Gives a new optimiser the state tensors of the last one of its form, filled with zeros.

        A state of zeros is what SGD and AdamW begin with. The form says where the state is: AdamW counts its steps on
        the host, or with `fused` or `capturable` on the device.
        """
        form = (type(optimizer), *(optimizer.defaults.get(name) for name in ("fused", "capturable", "foreach")))
        last_form, state = self.get("optimizer", lambda: (form, optimizer.state))
        for group in optimizer.param_groups if form == last_form else ():
            parameters = group["params"]
            if not all(state.get(parameter) for parameter in parameters):
                continue  # the fused SGD takes momentum buffers of all parameters of a group, or of none
            optimizer.state.update({parameter: state[parameter] for parameter in parameters})
            values = [value for parameter in parameters for value in state[parameter].values()]
            torch._foreach_zero_([value for value in values if isinstance(value, Tensor)])
        self._kept["optimizer"] = form, optimizer.state


@torch.no_grad()
def poured(source: nn.Module, target: nn.Module) -> bool:
    """Copies parameters and buffers of `source` into those of `target`, in place and in the layout of `target`.

    Returns False, and copies nothing, if names, shapes or types differ.
    """
    if source is target:
        return True
    values, places = tensors_of(source), tensors_of(target)
    if {name: (t.shape, t.dtype) for name, t in values.items()} != {n: (t.shape, t.dtype) for n, t in places.items()}:
        return False
    if places:
        torch._foreach_copy_(list(places.values()), [values[name] for name in places])
    target.zero_grad(set_to_none=True)
    return True


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those that are not in a checkpoint included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
