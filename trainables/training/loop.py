"""The training loop of all methods, folds and retrainings."""

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
"""Function from the step (from 1) to its batch, the same at every call."""


@dataclass
class LossHistory:
    """Means of each loss term (and diagnostic) over intervals of `every` steps; `steps` are their ends."""

    every: int
    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    _pending: dict[str, Tensor] = field(default_factory=dict)
    _count: int = 0

    def add(self, step: int, terms: dict[str, Tensor], last: bool) -> None:
        """Adds the terms of a step; reads them from the device only at the end of an interval."""
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
        """A copy of the history, with the unfinished interval."""
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        vars(self).update(copy.deepcopy(state))


class Fit:
    """One training in progress: a method, its optimiser, and the number of steps done.

    Only the contents of `state_dict` carry over from step to step: batches, mixing draws, dropout and learning rate are
    functions of the step number, so a training resumed from a checkpoint equals an uninterrupted one to the bit.
    """

    def __init__(self, method: Method, batch_at: BatchAt, config: TrainingConfig, device: torch.device) -> None:
        self.method = method
        self.batch_at = batch_at
        self.config = config
        self.device = device
        self.step = 0
        self.optimizer = build_optimizer(config, method)
        self.num_steps = config.resolved_num_steps
        self.history = LossHistory(every=max(1, self.num_steps // 25))

    def run(self, until: int | None = None, watch: Callable[[], None] | None = None) -> None:
        """Trains up to step `until` (None: `num_steps`); `watch` is called after every step.

        Raises:
            Diverged: at the first step with a loss term or a gradient that is not finite.
        """
        until = self.num_steps if until is None else min(until, self.num_steps)
        self.method.student.train()
        with global_generators_restored(), compiled(self.method.student.backbone, self.config.compile):
            while self.step < until:
                self.step += 1
                self._one_step()
                if watch is not None:
                    watch()

    def _one_step(self) -> None:
        batch = self.batch_at(self.step)
        if self.config.compile == "reduce-overhead":  # the outputs of the previous step are no longer needed
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        set_learning_rate(self.optimizer, self.config, self.step)
        torch.manual_seed(seed_for(self.method.context.seed, "dropout", self.step))
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.config, self.device):
            terms = self.method.loss(batch)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        gradients = gradients_of(self.optimizer)
        norms = torch.stack(torch._foreach_norm(gradients))
        self._check_finite(terms, norms)
        watched = terms | self.method.diagnostics
        if self.config.max_grad_norm is not None:
            watched["gradient_norm"] = clip(gradients, norms, self.config.max_grad_norm)
        self.optimizer.step()
        self.method.after_step(self.step)
        self.history.add(self.step, watched, last=self.step == self.num_steps)

    def _check_finite(self, terms: dict[str, Tensor], norms: Tensor) -> None:
        """Raises Diverged, with one device-to-host copy: a sum of norms is not finite if any gradient is not."""
        flags = torch.stack([*(t.detach().float() for t in terms.values()), norms.sum().float()]).isfinite()
        if not bool(flags.all()):
            names = [f"loss term {name!r}" for name in terms] + ["the gradient"]
            raise Diverged(self.step, names[flags.tolist().index(False)])

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on, and the loss history."""
        return {
            "step": self.step,
            "student": self.method.student.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self.step = state["step"]
        self.method.student.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history.load_state_dict(state["history"])


def clip(gradients: list[Tensor], norms: Tensor, max_norm: float) -> Tensor:
    """Scales `gradients` in place so that their joint norm is at most `max_norm`. Returns the norm before.

    `norms` are those of the single gradients. It is `torch.nn.utils.clip_grad_norm_` without its own pass over the
    gradients, and queues its work without waiting for the device.
    """
    norm: Tensor = torch.linalg.vector_norm(norms)
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@contextmanager
def compiled(module: nn.Module, mode: CompileMode) -> Iterator[None]:
    """Compiles `module` inside the block; evaluation, with batches of any size, is outside of it.

    A process reuses the compiled code for modules with the same structure.
    """
    if mode == "none":
        yield
        return
    module.compile(mode=mode)
    try:
        yield
    finally:
        module._compiled_call_impl = None  # PyTorch has no public way to undo compile()


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """Autocast context of `config.precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
