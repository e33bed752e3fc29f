"""A recorder for the CPU: it keeps the operations of a step with their tensors, and runs them again on the same ones.

As in a CUDA graph, Python runs once: what a step computes in Python is in the recording as it was. It refuses what a
CUDA graph cannot hold: reading from the device, and tensors that come from the host during the step.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)


class Tape:
    """Recorder of operations, as of `trainables.training.graph`; `lengths` are those of its recordings."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def warm_up(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, operations: Callable[[], None]) -> Callable[[], None]:
        recording, generator = Recording(), torch.get_rng_state()
        try:
            with recording:
                operations()
        finally:
            recording.undo()
            torch.set_rng_state(generator)
        self.lengths.append(len(recording.operations))
        return recording.replay


class Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        # They are held while is recorded: at the address of one that is released, a tensor of the host may lie.
        self.known = {int(storage._cdata): storage for storage in storages_in_process()}
        self.before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in HOST_READS:
            raise RuntimeError(f"{func} reads from the device")
        for tensor in tensors_in((args, kwargs)):
            if address_of(tensor) not in self.known:
                raise RuntimeError(f"{func} takes a tensor from the host")
            storage = tensor.untyped_storage()
            self.before.setdefault(address_of(tensor), (storage, storage.clone()))
        outputs = func(*args, **kwargs)
        made = tensors_in(outputs)
        for tensor in made:
            storage = tensor.untyped_storage()
            self.known[address_of(tensor)] = storage
            self.before.setdefault(address_of(tensor), (storage, storage.clone()))
        self.operations.append((func, args, kwargs, made))
        return outputs

    def undo(self) -> None:
        """Gives all tensors the values that they had, as a CUDA graph is recorded without running."""
        for storage, content in self.before.values():
            storage.copy_(content)
        self.known.clear()

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, made in self.operations:
                for old, new in zip(made, tensors_in(func(*args, **kwargs)), strict=True):
                    if address_of(old) != address_of(new):
                        old.copy_(new)


def tensors_in(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def storages_in_process() -> Iterator[torch.UntypedStorage]:
    """Storages of all tensors of the process, also of other tests; those of MKL-DNN have none."""
    for value in gc.get_objects():
        if issubclass(type(value), Tensor):
            with suppress(RuntimeError):
                yield value.untyped_storage()


def address_of(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
