"""The one loop: every method, fold and retraining goes through `Fit`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import Diverged
from trainables.methods.base import Method
from trainables.seeding import global_generators_restored, seed_for
from trainables.training.config import TrainingConfig
from trainables.training.optimizer import build_optimizer, gradients_of, set_learning_rate
from trainables.types import Batch, CompileMode

BatchAt = Callable[[int], Batch]
"""Step (from 1) → that step's batch; the same one whenever it is asked."""


@dataclass
class LossHistory:
    """Means of each loss term (and watched scalar) over stretches of steps; `steps` are the stretches' last ones."""

    every: int
    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    _pending: dict[str, Tensor] = field(default_factory=dict)
    _count: int = 0

    def add(self, step: int, terms: dict[str, Tensor], last: bool) -> None:
        """Takes a step's terms; reads them from the device only at the end of a stretch."""
        for name, value in terms.items():
            value = value.detach()
            self._pending[name] = self._pending[name] + value if name in self._pending else value
        self._count += 1
        if last or step % self.every == 0:
            self.steps.append(step)
            for name, total in self._pending.items():
                self.terms.setdefault(name, []).append(float(total) / self._count)
            self._pending, self._count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything recorded so far, the unfinished stretch included."""
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that `state_dict` gave."""
        vars(self).update(copy.deepcopy(state))


class Fit:
    """One training in progress: a method, its optimiser, and how far it has come.

    Nothing but `state_dict` carries over from step to step: batches, mixing draws, dropout and learning rate are
    functions of the step number, so a training taken up from a checkpoint goes on to the bit as if it had not stopped.
    """

    def __init__(self, method: Method, batch_at: BatchAt, config: TrainingConfig, device: torch.device) -> None:
        self.method = method
        self.batch_at = batch_at
        self.config = config
        self.device = device
        self.step = 0
        self.optimizer = build_optimizer(config, method)
        self.history = LossHistory(every=max(1, config.num_steps // 25))

    def run(self, until: int | None = None, watch: Callable[[], None] | None = None) -> None:
        """Trains up to step `until` (the whole budget if None); `watch` is called after every step.

        Raises:
            Diverged: with the first step at which a loss term or a gradient was not finite.
        """
        until = self.config.num_steps if until is None else min(until, self.config.num_steps)
        self.method.student.train()
        with global_generators_restored(), compiled(self.method.student.backbone, self.config.compile):
            while self.step < until:
                self.step += 1
                self._one_step()
                if watch is not None:
                    watch()

    def _one_step(self) -> None:
        batch = self.batch_at(self.step)
        if self.config.compile == "reduce-overhead":  # nobody asks any more for what the step before gave out
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        set_learning_rate(self.optimizer, self.config, self.step)
        torch.manual_seed(seed_for(self.method.context.seed, "dropout", self.step))
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.config, self.device):
            terms = self.method.loss(batch)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        self._check_finite(terms)
        self.optimizer.step()
        self.method.after_step(self.step)
        self.history.add(self.step, terms | self.method.watched, last=self.step == self.config.num_steps)

    def _check_finite(self, terms: dict[str, Tensor]) -> None:
        """One device-to-host copy a step: a sum of norms is not finite if any gradient is not (or overflows)."""
        norms = torch._foreach_norm(gradients_of(self.optimizer))
        flags = torch.stack(
            [*(t.detach().float() for t in terms.values()), torch.stack(norms).sum().float()]
        ).isfinite()
        if not bool(flags.all()):
            names = [f"loss term {name!r}" for name in terms] + ["the gradient"]
            raise Diverged(self.step, names[flags.tolist().index(False)])

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, and the loss history up to here."""
        return {
            "step": self.step,
            "student": self.method.student.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that `state_dict` gave."""
        self.step = state["step"]
        self.method.student.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history.load_state_dict(state["history"])


@contextmanager
def compiled(module: nn.Module, mode: CompileMode) -> Iterator[None]:
    """Compiles what `module` does within the block; outside of it, in evaluation, batches of every size are met.

    What a process has compiled once serves every module that is alike.
    """
    if mode == "none":
        yield
        return
    module.compile(mode=mode)
    try:
        yield
    finally:
        module._compiled_call_impl = None  # PyTorch has no name for the way back


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """bf16 autocast where the configuration asks for it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
