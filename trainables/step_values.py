"""Values that the host draws for each optimiser step, in tensors that a recording of a step can read.

A recorded step (`trainables.training.graph`) repeats its operations on the same tensors. What differs from step to
step and comes from the host (mixing draws, the learning rate) is therefore asked for as a function of the step, and
copied to where the recording reads it: many steps at once, as one tensor, of which each step takes the next row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Draw = Callable[[int], NDArray[Any] | float]
"""Function from the step (from 1) to a value, of one shape and type at all steps."""

ALIGNMENT_BYTES = 16
MAX_TABLE_BYTES = 4 << 20
MAX_STEPS = 64


class StepValues(Protocol):
    """Values of a step that is recorded, or may be. A method asks for the same ones in the same order at each step."""

    def tensor(self, draw: Draw) -> Tensor:
        """Returns what `draw` gives for the present step, on the device."""
        ...


@dataclass(frozen=True)
class Kind:
    """Shape and type of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, value: NDArray[Any]) -> Kind:
        """The kind of an array."""
        return cls(value.shape, value.dtype)

    @property
    def num_bytes(self) -> int:
        """Size of a value."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class UploadedValues:
    """Values of `step`, each copied to the device by itself. `kinds` lists what was asked for.

    >>> values = UploadedValues(3, torch.device("cpu"))
    >>> values.tensor(lambda step: step / 2), values.kinds[0].shape
    (tensor(1.5000, dtype=torch.float64), ())
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.kinds: list[Kind] = []
        self._step, self._device = step, device

    def tensor(self, draw: Draw) -> Tensor:
        """Returns the value of the step, in a new tensor."""
        value = np.array(draw(self._step))
        self.kinds.append(Kind.of(value))
        return torch.from_numpy(value).to(self._device, non_blocking=True)


class ValueTable:
    """Values of many steps on the device, a row for each, and of the present step at fixed addresses.

    While a step is recorded, `take_next_row` is its first operation, and `tensor` returns the fixed addresses, in the
    order of `kinds`. Before each replay, `seek` has the step's row be the next.
    """

    def __init__(self, kinds: list[Kind], device: torch.device) -> None:
        self._kinds, self._device = kinds, device
        self._dtypes = [torch.from_numpy(np.empty(0, kind.dtype)).dtype for kind in kinds]
        self._draws: list[Draw] = []
        self._starts: list[int] = []
        end = 0
        for kind in kinds:
            self._starts.append(end)
            end += -(-kind.num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._row_bytes = max(end, ALIGNMENT_BYTES)
        self._most_steps = max(1, min(MAX_STEPS, MAX_TABLE_BYTES // self._row_bytes))
        self._rows = torch.zeros(self._most_steps, self._row_bytes, dtype=torch.uint8, device=device)
        self._next = torch.zeros(1, dtype=torch.int64, device=device)
        self._row = torch.zeros(1, self._row_bytes, dtype=torch.uint8, device=device)
        self._steps: list[int] = []
        """Steps whose rows are still to be taken."""
        self._num_drawn = self._most_steps

    def take_next_row(self) -> None:
        """Copies the next row to the fixed addresses; operations on the device alone."""
        self._row.copy_(self._rows.index_select(0, self._next))
        self._next.add_(1)

    def tensor(self, draw: Draw) -> Tensor:
        """Returns where the values of `draw` are from the next replay on."""
        number = len(self._draws)
        if number == len(self._kinds):
            raise RuntimeError("the step asks for more values than the one before it")
        self._draws.append(draw)
        kind, start = self._kinds[number], self._starts[number]
        return self._row[0, start : start + kind.num_bytes].view(self._dtypes[number]).view(kind.shape)

    def seek(self, step: int, following: Iterable[int]) -> None:
        """Has the next row be that of `step`, and draws those of the `following` steps with it where it has to draw."""
        if not self._steps:
            self._num_drawn = min(2 * self._num_drawn, self._most_steps)
        elif self._steps[0] != step:
            self._num_drawn = 1  # steps out of turn are likely to go on so
        if not self._steps or self._steps[0] != step:
            self._fill([step, *islice(following, self._num_drawn - 1)])
        del self._steps[0]

    def _fill(self, steps: list[int]) -> None:
        rows = np.zeros((len(steps), self._row_bytes), np.uint8)
        for row, step in zip(rows, steps, strict=True):
            for draw, kind, start in zip(self._draws, self._kinds, self._starts, strict=True):
                value = np.ascontiguousarray(draw(step), kind.dtype)
                if value.size * value.itemsize != kind.num_bytes:
                    raise RuntimeError(f"a value of step {step} has another shape than when the step was recorded")
                row[start : start + kind.num_bytes] = value.reshape(-1).view(np.uint8)
        on_host = torch.from_numpy(rows)
        if self._device.type == "cuda":
            on_host = on_host.pin_memory()  # the allocator does not reuse it before it is copied
        self._rows[: len(steps)].copy_(on_host, non_blocking=True)
        self._next.zero_()
        self._steps = list(steps)
