"""Copies of networks. A network is tens of thousands of Python objects around a few hundred tensors, and
`copy.deepcopy` goes through all of them in Python; here pickle does, which is C."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from copyreg import dispatch_table
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

Network = TypeVar("Network")


class Mould(Generic[Network]):
    """What any number of copies of `original` are made from; it holds the original's tensors, not copies of them.

    Equal to `copy.deepcopy`, which it falls back on for what cannot be pickled.
    """

    def __init__(self, original: Network) -> None:
        self._original = original
        self._tensors: list[Tensor] = []
        try:
            self._form: bytes | None = self._pickled(original)
        except (pickle.PicklingError, AttributeError, TypeError):  # by the kind of what cannot be
            self._form = None

    def copy(self) -> Network:
        """A new one, with tensors of its own as the original's are now."""
        if self._form is None:
            return copy.deepcopy(self._original)
        caster = _Caster(io.BytesIO(self._form))
        caster.tensors = copy.deepcopy(self._tensors)
        cast: Network = caster.load()
        return cast

    def _pickled(self, original: Network) -> bytes:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, protocol=5)
        pickler.dispatch_table = {**dispatch_table, Tensor: self._place, nn.Parameter: self._place}
        pickler.dump(original)
        return file.getvalue()

    def _place(self, tensor: Tensor) -> tuple[Callable[[int], Tensor], tuple[int]]:
        self._tensors.append(tensor)
        return tensor_at, (len(self._tensors) - 1,)


class _Caster(pickle.Unpickler):
    """Puts `tensors` in their places."""

    tensors: list[Tensor]

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name == tensor_at.__name__:
            return self.tensors.__getitem__
        return super().find_class(module, name)


def tensor_at(place: int) -> Tensor:
    """Stands in a pickled form where a tensor is to be put."""
    raise NotImplementedError(f"only a Mould knows tensor {place}")


def copied(network: Network) -> Network:
    """One copy."""
    return Mould(network).copy()


def twin_of(network: Network) -> Network:
    """New modules around the tensors of `network` themselves: what changes these changes both."""
    assert isinstance(network, nn.Module)
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
