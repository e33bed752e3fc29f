"""Sections of `benchmarks.gpu`: what a step costs on a card, what it waits for, and what each way to make it does.

gpu_smile_over_plain_<network>_<precision>   a step of SMILE over one of plain fine-tuning, in turns
gpu_busy_<network>_<precision>               time of SMILE's kernels over the time of its step
gpu_syncs_<network>_<precision>              times that the host waits for the card in a stretch of steps
gpu_launches_<network>_<precision>           SMILE's kernels over plain fine-tuning's

Of `ablation`: a step with a change over one without, below 1 where it gains.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.figures import paired_ratio
from benchmarks.gpu_section import Section, Workload, in_turns, step_s, training
from trainables.backbones import batchnorm_folding
from trainables.training import loop
from trainables.training.graph import RecordedSteps
from trainables.training.kernels import kernels
from trainables.training.loop import Fit

METHODS = ("l2", "smile")
FIRST_CHANGES = ("recorded", "recorded_l2", "contiguous", "fused_optimizer")
"""Those that decide what to build next, as there may be no time for all."""


def run(section: Section) -> None:
    """SMILE and plain fine-tuning, the networks of a search first."""
    for precision in ("bf16", "fp32"):
        for key in ("small", "large"):
            _attempt(section, key, precision)
    for precision in ("bf16", "fp32"):
        _attempt(section, "tokens", precision)


def _attempt(section: Section, key: str, precision: str) -> None:
    workload = section.workload(key)
    name = f"{workload.label}_{precision}"
    if section.has_time_for(name, 12):
        section.attempt(f"steps_{name}", partial(measure_steps, section, workload, precision, name))


def measure_steps(section: Section, workload: Workload, precision: str, name: str) -> None:
    """All figures of a network in a precision."""
    start = partial(training, section, workload, precision=precision)
    num_steps, warm_up = section.count(20, 2), section.count(8, 1)
    for method in METHODS:
        with peak_memory(section, f"{name}_{method}"):  # of one training: the other takes memory, too
            step_s(start(method=method), warm_up)
    fits = {method: start(method=method) for method in METHODS}
    for fit in fits.values():
        step_s(fit, warm_up)
    taken = in_turns({method: partial(step_s, fit, num_steps) for method, fit in fits.items()}, section.count(3))
    for method, seconds in taken.items():
        section.value(f"step_{name}_{method}", 1e3 * seconds, "ms")
    # In bf16 the teacher's forward pass alone is a third of a step's arithmetic.
    section.figure(f"smile_over_plain_{name}", taken["smile"] / taken["l2"], 1.20 if precision == "bf16" else 1.10)
    kernels, busy_s = {}, {}
    for method, fit in fits.items():
        trace = f"{name}_{method}" if method == "smile" and workload.label == "effnet64" else ""
        kernels[method], busy_s[method] = kernels_of(fit, section, trace)
        section.value(f"kernels_{name}_{method}", kernels[method], "a step")
    section.figure(f"launches_{name}", kernels["smile"] / kernels["l2"], 1.40)
    section.figure(f"busy_{name}", busy_s["smile"] / taken["smile"], 0.9, at_least=True)
    section.figure(f"syncs_{name}", syncs_of(fits["smile"], num_steps), 1)


@contextmanager
def peak_memory(section: Section, name: str) -> Iterator[None]:
    """Says how much of torch's allocator is in use and reserved at the block's peak. Peaks begin at what is reserved,
    so that what nothing uses any more is given back before."""
    if section.device.type != "cuda":
        yield
        return
    gc.collect()
    torch.cuda.init()  # type: ignore[no-untyped-call]  # before which there is no peak
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    section.value(f"peak_{name}", torch.cuda.max_memory_allocated() / 2**30, "GiB allocated")
    section.value(f"peak_reserved_{name}", torch.cuda.max_memory_reserved() / 2**30, "GiB reserved")


def kernels_of(fit: Fit, section: Section, trace: str) -> tuple[float, float]:
    """Kernels of a step and the seconds that they take, over a few steps; on a CPU operations, nested ones too.

    With a name, the trace of the steps goes to the section's folder.
    """
    on_card = section.device.type == "cuda"
    num_steps = section.count(3)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities) as profiled:
        step_s(fit, num_steps)
    if trace:
        profiled.export_chrome_trace(str(section.out / f"trace_{trace}.json.gz"))  # compressed, as it is 15 MB
    events = events_on(DeviceType.CUDA if on_card else DeviceType.CPU, profiled.events() or ())
    spans = sorted((event.time_range.start, event.time_range.end) for event in events)
    return len(events) / num_steps, covered(spans) / 1e6 / num_steps


def events_on(kind: DeviceType, events: Iterable[FunctionEvent]) -> list[FunctionEvent]:
    """What ran there. Annotations are no kernels: that of an optimiser's step covers the waits between its kernels."""
    return [event for event in events if event.device_type == kind and not event.is_user_annotation]


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals, which are sorted.

    >>> covered([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def syncs_of(fit: Fit, num_steps: int) -> int:
    """Times that the host waits for the card in so many steps, the end of the stretch included; 0 on a CPU."""
    if fit.device.type != "cuda":
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit.run(fit.step + num_steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


# What each change does


def _nothing(fit: Fit) -> None:
    pass


@dataclass(frozen=True)
class Change:
    """A change to a training: of its settings, of the object, or of the state while it runs."""

    options: dict[str, Any] = field(default_factory=dict)
    modify: Callable[[Fit], None] = _nothing
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    precision: str = "bf16"
    method: str = "smile"
    workloads: tuple[str, ...] = ("small", "large")


def check_each_step(fit: Fit) -> None:
    """Reads at every step whether all is finite."""
    fit.finite.defers = False


def fuse_optimizer(fit: Fit) -> None:
    """One kernel for the optimiser's whole step, instead of several on lists."""
    for group in fit.optimizer.param_groups:
        group.update(fused=True, foreach=False)


def drop_counters(fit: Fit) -> None:
    """BatchNorm's counters of batches, which nothing reads."""
    for module in fit.method.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None


def within_kernels(choose: Callable[[], None]) -> AbstractContextManager[Any]:
    """Calls `choose` where a training has chosen its kernels: what is chosen outside, `run` chooses anew."""

    @contextmanager
    def chosen(*given: Any, **options: Any) -> Iterator[None]:
        with kernels(*given, **options):
            choose()
            yield

    return mock.patch.object(loop, "kernels", chosen)


def take_first_algorithms() -> None:
    """Has cuDNN take an algorithm by its rules, instead of the fastest by measurement."""
    torch.backends.cudnn.benchmark = False


def multiply_in_fp32() -> None:
    """Has products of fp32 matrices computed in fp32, not in TF32."""
    torch.set_float32_matmul_precision("highest")


CHANGES = {
    "recorded": Change(options={"cuda_graphs": True}),
    "recorded_l2": Change(options={"cuda_graphs": True}, method="l2"),
    "teacher_not_folded": Change(around=lambda: mock.patch.object(batchnorm_folding, "is_close", return_value=False)),
    "checked_each_step": Change(modify=check_each_step),
    "algorithms_not_measured": Change(around=partial(within_kernels, take_first_algorithms)),
    "fused_optimizer": Change(modify=fuse_optimizer),
    "no_batchnorm_counters": Change(modify=drop_counters),
    "contiguous": Change(options={"channels_last": False}),
    "products_in_fp32": Change(
        around=partial(within_kernels, multiply_in_fp32), precision="fp32", workloads=("tokens",)
    ),
}


def run_ablation(section: Section) -> None:
    """Each change by itself, on SMILE unless it names another method."""
    for name, change in sorted(CHANGES.items(), key=lambda item: item[0] not in FIRST_CHANGES):
        for key in change.workloads:
            workload = section.workload(key)
            if section.has_time_for(f"{name} on {workload.label}", 4):
                attempt = partial(measure_change, section, workload, f"{name}_{workload.label}", change)
                section.attempt(f"ablation_{name}_{workload.label}", attempt)


def measure_change(section: Section, workload: Workload, name: str, change: Change) -> None:
    """Time of a step with the change over that of one without."""
    plain = training(section, workload, change.method, change.precision)
    changed = training(section, workload, change.method, change.precision, **change.options)
    change.modify(changed)
    num_steps = section.count(15, 1)

    def with_change() -> float:
        with change.around():
            return step_s(changed, num_steps)

    def without() -> float:
        return step_s(plain, num_steps)

    for warm_up in (with_change, without):
        warm_up()
    if isinstance(changed.runner, RecordedSteps):
        section.value(f"{name}_recordings", changed.runner.num_recordings, "")
    section.value(f"{name}_over_without", paired_ratio(with_change, without, section.count(3)), "×")
