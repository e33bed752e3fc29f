"""Fast copies of networks.

A network is tens of thousands of Python objects around a few hundred tensors. `copy.deepcopy` copies them in Python;
pickle, which is used here, in C.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from copyreg import dispatch_table
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

Network = TypeVar("Network")


class Cloner(Generic[Network]):
    """Fast repeated deep copies of a module: its structure is pickled once, its tensors are cloned for each copy.

    It keeps references to the tensors of `original`, so a copy has their present values. The result equals that of
    `copy.deepcopy`, which is used for objects that cannot be pickled.

    >>> cloner = Cloner(nn.Linear(2, 3))
    >>> first, second = cloner.copy(), cloner.copy()
    >>> first.weight is second.weight, bool((first.weight == second.weight).all())
    (False, True)
    """

    def __init__(self, original: Network) -> None:
        self.original = original
        self._tensors: list[Tensor] = []
        try:
            self._structure: bytes | None = self._pickled(original)
        except (pickle.PicklingError, AttributeError, TypeError):  # depends on the kind of object
            self._structure = None

    def copy(self) -> Network:
        """A deep copy, with the present values of the tensors of the original."""
        if self._structure is None:
            return copy.deepcopy(self.original)
        unpickler = _TensorUnpickler(io.BytesIO(self._structure))
        unpickler.tensors = copy.deepcopy(self._tensors)
        copied: Network = unpickler.load()
        return copied

    def _pickled(self, original: Network) -> bytes:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, protocol=5)
        pickler.dispatch_table = {**dispatch_table, Tensor: self._place, nn.Parameter: self._place}
        pickler.dump(original)
        return file.getvalue()

    def _place(self, tensor: Tensor) -> tuple[Callable[[int], Tensor], tuple[int]]:
        self._tensors.append(tensor)
        return tensor_at, (len(self._tensors) - 1,)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler that replaces each reference by one of `tensors`."""

    tensors: list[Tensor]

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name == tensor_at.__name__:
            return self.tensors.__getitem__
        return super().find_class(module, name)


def tensor_at(place: int) -> Tensor:
    """Reference to a tensor in a pickled structure; `_TensorUnpickler` resolves it."""
    raise NotImplementedError(f"tensor {place} can only be resolved by a Cloner")


def clone(network: Network) -> Network:
    """A deep copy of `network`; see `Cloner`."""
    return Cloner(network).copy()


def structural_copy(network: Network) -> Network:
    """A copy of the modules of `network` that shares its tensors: a change in place of one changes both."""
    assert isinstance(network, nn.Module)
    tensors = (*network.parameters(), *network.buffers())
    copied = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    modes = {name: module.training for name, module in network.named_modules()}
    for name, module in copied.named_modules():  # copies of an fx graph's modules are in training mode
        module.training = modes[name]
    return copied
