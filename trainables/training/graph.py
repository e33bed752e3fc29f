"""Optimiser steps one by one, or recorded once and replayed: with `training.cuda_graphs`, as CUDA graphs.

A step launches hundreds of kernels; where they are short, the host that launches them is the limit. A recording is
launched as one. It repeats the same operations on the same tensors, which holds if

- what differs between steps is a function of the step, asked for through `Batch.values`;
- nothing is read from the device, and no tensor comes from the host otherwise;
- shapes are constant: steps with other shapes have recordings of their own.

Methods say so by `Method.is_recordable`; for others, and where recording fails, steps are computed one by one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from trainables.methods.base import Method
from trainables.step_values import Kind, UploadedValues, ValueTable
from trainables.training.config import TrainingConfig
from trainables.types import Batch

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 3
"""Steps of a kind that are computed before one is recorded: the first ones allocate, and choose algorithms."""

Replay = Callable[[], None]


class Recorder(Protocol):
    """Records operations on a device."""

    def warm_up(self) -> AbstractContextManager[None]:
        """Context of the steps that are computed before one is recorded."""
        ...

    def record(self, operations: Callable[[], None]) -> Replay:
        """Records `operations` without an effect on any tensor. Returns a function that runs them.

        Raises RuntimeError if they cannot be recorded.
        """
        ...


class CudaGraphs:
    """Records CUDA graphs, which share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Computes on the stream on which is recorded, so that what it needs is allocated there."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, operations: Callable[[], None]) -> Replay:
        """Captures `operations`. Other threads may use the device meanwhile: checkpoints are written by one."""
        graph = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local")
        # The outer context goes back to the stream of before where the capture fails: torch.cuda.graph then does not.
        with torch.cuda.stream(self._stream), capture:
            operations()
        return graph.replay


class Steps(Protocol):
    """What the steps of a training consist of."""

    method: Method
    device: torch.device
    num_steps: int

    def begin(self, step: int) -> Batch:
        """Seeds what a step draws on the device, and returns its batch."""
        ...

    def compute(self, batch: Batch) -> None:
        """All operations of a step, from its batch to the optimiser."""
        ...


class StepRunner(Protocol):
    """Runs the steps of one training."""

    def run(self, steps: Steps, step: int) -> None:
        """Runs step `step`, and what the method does after it."""
        ...


class EagerSteps:
    """Computes each step."""

    def run(self, steps: Steps, step: int) -> None:
        """Computes it."""
        steps.compute(steps.begin(step))
        steps.method.after_step(step)


@dataclass(frozen=True)
class Recording:
    """A recorded step: its replay, and the tensors that it reads."""

    replay: Replay
    batch: Batch
    table: ValueTable


class RecordedSteps:
    """Records a step of each kind after `WARM_UP_STEPS`, and replays it from then on, with equal results.

    Steps are of one kind if their batches have equal shapes and the method has an equal key for them. If a step cannot
    be recorded, the reason is logged, and this step and all that follow are computed.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Recorder | None = recorder
        self._computed: Counter[Hashable] = Counter()
        self._kinds: dict[Hashable, list[Kind]] = {}
        self._recordings: dict[Hashable, Recording] = {}
        self._updates: dict[Hashable, Replay] = {}

    @property
    def num_recordings(self) -> int:
        """Number of recorded steps and updates."""
        return len(self._recordings) + len(self._updates)

    def run(self, steps: Steps, step: int) -> None:
        """Replays it, or computes it where there is nothing to replay."""
        batch = steps.begin(step)
        key = (steps.method.step_key(step), *((tensor.shape, tensor.dtype) for tensor in _tensors(batch)))
        if self._recorder is not None and key not in self._recordings and self._computed[key] >= WARM_UP_STEPS:
            self._record_step(steps, key, batch)
        if key in self._recordings:
            _replay(self._recordings[key], steps, batch)
        elif self._recorder is None:
            steps.compute(batch)
        else:
            values = UploadedValues(step, steps.device)
            with self._recorder.warm_up():
                steps.compute(replace(batch, values=values))
            self._kinds[key] = values.kinds
            self._computed[key] += 1
        self._update(steps.method, step)

    def _record_step(self, steps: Steps, key: Hashable, batch: Batch) -> None:
        table = ValueTable(self._kinds[key], steps.device)
        fixed = _copied(replace(batch, values=table))

        def operations() -> None:
            table.take_next_row()
            steps.compute(fixed)

        if (replay := self._recorded(operations, steps.method)) is not None:
            self._recordings[key] = Recording(replay, fixed, table)

    def _update(self, method: Method, step: int) -> None:
        """Runs `after_step`, recorded from its second time on where the method has a key for it."""
        key = method.update_key(step)
        if key is None or self._recorder is None:
            method.after_step(step)
        elif key in self._updates:
            self._updates[key]()
        elif not self._computed["update", key]:
            with self._recorder.warm_up():
                method.after_step(step)
            self._computed["update", key] += 1
        elif (replay := self._recorded(lambda: method.after_step(step), method)) is not None:
            self._updates[key] = replay
            replay()
        else:
            method.after_step(step)

    def _recorded(self, operations: Callable[[], None], method: Method) -> Replay | None:
        """Records operations. If that fails, nothing is recorded or replayed any more."""
        if self._recorder is None:
            return None
        try:
            return self._recorder.record(operations)
        except RuntimeError as error:  # CUDA's errors are
            reason = error.__context__ or error  # the end of a capture that has failed raises, too, without the reason
            log_once(f"training.cuda_graphs: a step could not be recorded, steps are computed one by one: {reason}")
            self._recorder = None
            self._recordings.clear()
            self._updates.clear()
            method.tensors_changed()
            return None


def _replay(recording: Recording, steps: Steps, batch: Batch) -> None:
    key_of, step = steps.method.step_key, batch.step
    following = (each for each in range(step + 1, steps.num_steps + 1) if key_of(each) == key_of(step))
    recording.table.seek(step, following)
    torch._foreach_copy_(_tensors(recording.batch), _tensors(batch))
    recording.replay()


def _tensors(batch: Batch) -> list[Tensor]:
    tensors = (batch.inputs, batch.labels, batch.index, batch.second_inputs)
    return [tensor for tensor in tensors if tensor is not None]


def _copied(batch: Batch) -> Batch:
    second = None if batch.second_inputs is None else batch.second_inputs.clone()
    first = (batch.inputs.clone(), batch.labels.clone(), batch.index.clone())
    return replace(batch, inputs=first[0], labels=first[1], index=first[2], second_inputs=second)


def recorder_for(method: Method, config: TrainingConfig, device: torch.device) -> Recorder | None:
    """The recorder of a training's steps; None if they are computed one by one, with the reason in the log."""
    if not config.cuda_graphs:
        return None
    reason = why_not_recorded(method, config, device)
    if reason is None:
        return CudaGraphs(device)
    log_once(f"training.cuda_graphs: {reason}; steps are computed one by one")
    return None


def why_not_recorded(method: Method, config: TrainingConfig, device: torch.device) -> str | None:
    """Reason why no step of a training can be recorded as a CUDA graph; None if there is none."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if config.precision == "fp16":
        return "in fp16 each step reads from the device whether its gradients overflowed"
    if config.compile != "none":
        return f"training.compile is {config.compile}"
    if not method.is_recordable:
        return f"the method {method.config.name} reads from the device, or does not say that it does not"
    return None


@cache
def log_once(message: str) -> None:
    """Logs a warning, once in a process."""
    logger.warning(message)
