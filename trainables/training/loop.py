"""The training loop of all methods, folds and retrainings."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainables.backbones.frozen_batchnorm import FrozenBatchNorm
from trainables.methods.base import Method
from trainables.precision import autocast_to, precision_on
from trainables.seeding import global_generators_restored, seed_for
from trainables.training.config import TrainingConfig
from trainables.training.finite import FiniteCheck
from trainables.training.graph import EagerSteps, RecordedSteps, Recorder, StepRunner, recorder_for
from trainables.training.kernels import kernels
from trainables.training.loss_scaling import LossScaling
from trainables.training.optimizer import build_optimizer, gradients_of, load_optimizer, set_learning_rate
from trainables.types import Batch, CompileMode

BatchAt = Callable[[int], Batch]
"""Function from the step (from 1) to its batch, the same at every call."""


@dataclass
class LossHistory:
    """Means of each loss term (and diagnostic) over intervals of `every` steps; `steps` are their ends."""

    every: int
    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    _totals: dict[str, Tensor] = field(default_factory=dict, compare=False)
    """Sums over the interval so far, on the device."""
    _count: int = 0

    @torch.no_grad()
    def add(self, terms: dict[str, Tensor]) -> None:
        """Adds the terms of a step on their device."""
        for name, value in terms.items():
            if name not in self._totals or self._totals[name].device != value.device:  # it may have been on the host
                before = self._totals.get(name)
                self._totals[name] = torch.zeros_like(value) if before is None else before.to(value.device)
        torch._foreach_add_([self._totals[name] for name in terms], list(terms.values()))

    def end_step(self, step: int, last: bool, beside: Tensor | None = None) -> list[float]:
        """Counts a step; reads the terms from the device only at the end of an interval, all at once.

        Returns what was read of the vector `beside` with them: nothing within an interval.
        """
        self._count += 1
        if not last and step % self.every:
            return []
        totals = [*self._totals.values()]
        read = _read(totals, beside)
        self.steps.append(step)
        for name, total in zip(self._totals, read, strict=False):
            self.terms.setdefault(name, []).append(total / self._count)
        torch._foreach_zero_(totals)
        self._count = 0
        return read[len(totals) :]

    def state_dict(self) -> dict[str, Any]:
        """A copy of the history, with the unfinished interval."""
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        vars(self).update(copy.deepcopy(state))


def _read(scalars: list[Tensor], vector: Tensor | None) -> list[float]:
    """Copies scalars, and a vector after them, to the host in one transfer."""
    device = scalars[0].device if vector is None else vector.device
    exact = torch.float32 if device.type == "mps" else torch.float64
    parts = [scalar.to(device, exact).reshape(1) for scalar in scalars]
    values: list[float] = torch.cat([*parts, *([] if vector is None else [vector.to(exact)])]).tolist()
    return values


class Fit:
    """One training in progress: a method, its optimiser, and the number of steps done.

    Only the contents of `state_dict` carry over from step to step: batches, mixing draws, dropout and learning rate are
    functions of the step number, so a training resumed from a checkpoint equals an uninterrupted one: to the bit on the
    CPU, and on a GPU with `deterministic`; else as far as its kernels are deterministic.
    """

    def __init__(
        self,
        method: Method,
        batch_at: BatchAt,
        config: TrainingConfig,
        device: torch.device,
        recorder: Recorder | None = None,
    ) -> None:
        self.method = method
        self.batch_at = batch_at
        self.precision = precision_on(config.precision, device)
        self.config = config = config.model_copy(update={"precision": self.precision})
        self.device = device
        self.batch_norm = batch_norm_of(method, config, device)
        self.scaling = LossScaling(self.precision, device)
        self.step = 0
        recorder = recorder or recorder_for(method, config, device)
        self.optimizer = build_optimizer(config, method, recordable=recorder is not None)
        method.context.kept.share_state(self.optimizer)
        self.num_steps = config.resolved_num_steps
        self.history = LossHistory(every=max(1, self.num_steps // 25))
        self.finite = FiniteCheck(device)
        self.runner: StepRunner = EagerSteps() if recorder is None else RecordedSteps(recorder)
        self.timed_steps, self.timed_s = 0, 0.0
        """Steps of this process, and the seconds that they took, with their checkpoints."""

    def run(self, until: int | None = None, watch: Callable[[], None] | None = None) -> None:
        """Trains up to step `until` (None: `num_steps`); `watch` is called after every step.

        Raises:
            Diverged: if a loss term or a gradient was not finite. It names the first such step; on a GPU some more may
                have been computed by then.
        """
        until = self.num_steps if until is None else min(until, self.num_steps)
        started_s, started_at = time.perf_counter(), self.step
        self.method.student.train()
        compiled_backbone = compiled(self.method.student.backbone, self.config.compile)
        chosen = kernels(self.config, self.device, shapes_are_constant=True)
        with global_generators_restored(), chosen, compiled_backbone, self.batch_norm.in_force():
            while self.step < until:
                self.step += 1
                self._one_step()
                if watch is not None:
                    watch()
        self.finite.raise_if_found()  # which waits for a GPU
        self.timed_steps += self.step - started_at
        self.timed_s += time.perf_counter() - started_s

    def _one_step(self) -> None:
        self.runner.run(self, self.step)
        is_last = self.step == self.num_steps
        if read := self.history.end_step(self.step, is_last, self.finite.state):
            self.finite.raise_if_found(read)

    def begin(self, step: int) -> Batch:
        """Seeds the dropout of a step, and returns its batch."""
        batch = self.batch_at(step)
        if self.config.compile == "reduce-overhead":  # the outputs of the previous step are no longer needed
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        torch.manual_seed(seed_for(self.method.context.seed, "dropout", step))
        return batch

    def compute(self, batch: Batch) -> None:
        """All operations of a step on the device, from its batch to the optimiser; they may be recorded."""
        set_learning_rate(self.optimizer, self.config, batch.step, batch.values)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.config, self.device):
            terms = self.method.loss(batch)
        self.scaling.backward(torch.stack(list(terms.values())).sum(), self.optimizer)
        gradients = gradients_of(self.optimizer)
        norms = torch.stack(torch._foreach_norm(gradients))
        step = batch.step if batch.values is None else batch.values.tensor(float)
        self.finite.add(step, terms, self.scaling.judged(norms))
        if not self.finite.defers:
            self.finite.raise_if_found()
        watched = terms | self.method.diagnostics
        if self.config.max_grad_norm is not None:
            norm = clip(gradients, norms, self.config.max_grad_norm)
            watched["gradient_norm"] = norm.nan_to_num(0, 0) if self.scaling.is_on else norm  # of a skipped step
        self.scaling.step(self.optimizer)
        self.history.add(watched)

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on, and the loss history."""
        return {
            "step": self.step,
            "student": self.method.student.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.state_dict(),
            "scaling": self.scaling.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self.step = state["step"]
        self.method.student.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.history.load_state_dict(state["history"])
        self.scaling.load_state_dict(state["scaling"])


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
    return autocast_to(precision_on(config.precision, device), device)


def batch_norm_of(method: Method, config: TrainingConfig, device: torch.device) -> FrozenBatchNorm:
    """The BatchNorms that `config` freezes: none, or those of the student and of the method's other networks.

    They are folded where that was measured to be faster (docs/decisions/0031), and where no hook reads between.
    """
    if config.batch_norm == "train":
        return FrozenBatchNorm(fold=False)
    is_plain = config.compile == "none" and config.precision == "fp32" and device.type == "cpu"
    fold = is_plain and not method.uses_forward_hooks
    return FrozenBatchNorm(method.student.backbone, method.extra_modules(), fold=fold)
