"""Check that losses and gradients are finite, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.errors import Diverged


class FiniteCheck:
    """Finds the first optimiser step with a loss term, or a gradient, that is not finite.

    The step and the position of what is not finite stay on the device, in `state`, until they are read: on a GPU once
    for many steps, as each read waits for all work that was queued. What is computed after the first such step is
    discarded, whenever it is read.
    """

    def __init__(self, device: torch.device) -> None:
        self.defers = device.type == "cuda"
        """Whether reading costs more than the steps that may be computed in vain."""
        self.state = torch.zeros(2, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        """Step of the first find, 0 if there is none, and the position of its term; the gradient follows the terms."""
        self._names: tuple[str, ...] = ()

    def add(self, step: int | Tensor, terms: dict[str, Tensor], norms: Tensor) -> None:
        """Takes the terms of a step and the norms of its gradients: their sum is not finite if any gradient is not."""
        values = torch.stack([*(term.detach().float() for term in terms.values()), norms.sum().float()])
        is_bad = values.isfinite().logical_not()
        position = is_bad.to(torch.int8).argmax()  # the first of several
        found = torch.stack([(is_bad.any() * step).to(self.state.dtype), position.to(self.state.dtype)])
        self.state.copy_(torch.where(self.state[0] > 0, self.state, found))
        self._names = tuple(terms)

    def raise_if_found(self, read: Sequence[float] | None = None) -> None:
        """Raises Diverged if anything was not finite; `read` is `state` as it was read together with other values."""
        step, position = self.state.tolist() if read is None else read
        if step:
            names = [f"loss term {name!r}" for name in self._names]
            raise Diverged(int(step), [*names, "the gradient"][int(position)])
