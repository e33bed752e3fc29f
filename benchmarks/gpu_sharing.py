"""Section of `benchmarks.gpu`: processes that share a card, as the trials of a search do, without and with MPS.

All processes are there from the start; k of them train SMILE in bf16 within a window that begins and ends for all at
the same time. Only steps that the card has completed within the window count.

gpu_k8_over_1_<network>[_mps]   images a second of eight processes together, over those of one

Where fewer find room on the card, their number stands for the 8. Printed besides: the memory of the card and of a
process, and what MPS gains over the slices of time that processes get without.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.gpu_section import Section, Workload, card_bytes_in_use, results_in, taken_bytes, training
from trainables.errors import first_line
from trainables.training.loop import Fit

PROCESSES = 8
COUNTS = {"small": (1, 8, 4, 2), "large": (1, 8, 4, 2), "medium": (1, 8)}
"""Processes that train at a time, those that give the figure first: time may be over before the others."""
AT_LEAST = {"effnet64": 2.5, "resnet50": 1.1}
WINDOW_S = 4.0
STARTED_WITHIN_S = 60.0
"""How long a process may take until it has trained a few steps; a window begins `LEAD_S` after it was ordered."""
LEAD_S = 0.5


class WindowOver(Exception):
    """Ends a training at the end of a window."""


@dataclass(frozen=True)
class Window:
    """An order to train the workload of that key between two times of `time.monotonic`."""

    key: str
    starts_s: float
    ends_s: float


@dataclass(frozen=True)
class Memory:
    """Bytes of torch's allocator in a process, now and at its peak."""

    reserved: int
    peak: int


def run(section: Section, suffix: str = "") -> None:
    """The figures of each network, of all processes right after those of one."""
    count = section.count(PROCESSES, 2)
    empty = card_bytes_in_use()
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(section)) for _ in range(count)]
        for key in COUNTS:
            if section.has_time_for(section.workload(key).label, 15):
                section.attempt(f"sharing_{key}{suffix}", partial(measure, section, workers, key, suffix, empty))


def run_with_mps(section: Section) -> None:
    """The same below NVIDIA's multi-process service, which the caller has started."""
    run(section, "_mps")


def measure(section: Section, workers: list[Connection], key: str, suffix: str, empty: int | None) -> None:
    """Images a second of some of the processes that find room, and their memory. `empty` are the bytes that were in use
    on the card before the processes started."""
    label = section.workload(key).label
    ready = those_ready(workers, key)
    most = len(ready)
    if most < len(workers):
        print(f"{most} of {len(workers)} processes find room for {label}", flush=True)
    report_memory(section, list(ready.values()), f"{label}{suffix}", empty)
    rates: dict[int, float] = {}
    for count in counts_of(key, most):
        if section.has_time_for(f"{count} processes of {label}", section.count(5) + 2):
            rates[count] = images_per_s(section, list(ready)[:count], key)
            section.value(f"images_{label}_of_{count}{suffix}", rates[count], "images/s")
    if suffix:
        report_gain(section, label, suffix, rates)
    if rates.get(1) == 0:
        raise RuntimeError("no step ended within a window")
    if most in rates and most > 1:
        name, ratio = f"k{most}_over_1_{label}{suffix}", rates[most] / rates[1]
        if label in AT_LEAST:
            section.figure(name, ratio, AT_LEAST[label], at_least=True)
        else:
            section.value(name, ratio, "×")


def those_ready(workers: list[Connection], key: str) -> dict[Connection, Memory]:
    """The processes that can train it, with their memory. One that does not answer, or has ended, is removed from
    `workers`. Raises RuntimeError where none can."""
    for each in workers:
        each.send(key)
    ready, reason = {}, "none is left"
    for each in list(workers):
        try:
            while isinstance(answer := received(each), int):
                pass  # of a window that another process has broken off
        except RuntimeError as error:
            workers.remove(each)
            answer = str(error)
        if isinstance(answer, Memory):
            ready[each] = answer
        else:
            reason = answer
    if not ready:
        raise RuntimeError(f"no process can train it: {reason}")
    return ready


def counts_of(key: str, most: int) -> list[int]:
    """Numbers of processes to measure where there are at most so many: the largest number stands for eight.

    >>> counts_of("small", 8), counts_of("large", 5), counts_of("medium", 1)
    ([1, 8, 4, 2], [1, 5, 4, 2], [1])
    """
    possible = [count for count in COUNTS[key] if count <= most or count == PROCESSES]
    return list(dict.fromkeys(min(count, most) for count in possible))


def report_memory(section: Section, memory: Sequence[Memory], name: str, empty: int | None) -> None:
    """Writes what the processes take of the card, and what each takes of it: at the peak, and outside of torch's
    allocator."""
    section.value(f"peak_gib_of_a_process_{name}", max(each.peak for each in memory) / 2**30, "GiB")
    in_use = card_bytes_in_use()
    if in_use is not None and empty is not None:
        outside = in_use - empty - sum(each.reserved for each in memory)
        section.value(f"card_gib_of_{len(memory)}_{name}", in_use / 2**30, "GiB")
        section.value(f"context_gib_of_a_process_{name}", outside / len(memory) / 2**30, "GiB")


def report_gain(section: Section, label: str, suffix: str, rates: dict[int, float]) -> None:
    """Writes what MPS gains for each number of processes that was measured without it, too."""
    written = {line["name"]: line["value"] for line in results_in(section.out)}
    for count, rate in rates.items():
        if without := written.get(f"images_{label}_of_{count}"):
            section.value(f"{suffix.strip('_')}_over_slicing_{label}_of_{count}", rate / without, "×")


def images_per_s(section: Section, workers: Sequence[Connection], key: str) -> float:
    """Of so many processes together, in one window."""
    lead_s, length_s = (0.1, 0.5) if section.is_rehearsal else (LEAD_S, WINDOW_S)
    starts_s = time.monotonic() + lead_s
    for each in workers:
        each.send(Window(key, starts_s, starts_s + length_s))
    steps = sum(received(each) for each in workers)
    return float(steps * section.workload(key).batch_size / length_s)


def received(connection: Connection) -> Any:
    """What a process answers. Raises RuntimeError where it says nothing or has ended."""
    if not connection.poll(STARTED_WITHIN_S):
        raise RuntimeError("a process does not answer")
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError("a process has ended") from None


@contextmanager
def worker(section: Section) -> Iterator[Connection]:
    """A process that trains when it is told to. It is forked, which takes no time, before this one has used CUDA."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, section), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join(5)


def work(orders: Connection, section: Section) -> None:
    """Builds the training of a key that it is told, or trains it within a window, until there are no more orders."""
    torch.set_num_threads(1)
    fits: dict[str, Fit] = {}
    while True:
        try:
            order = orders.recv()
        except EOFError:
            return
        if isinstance(order, Window):
            orders.send(steps_within(fits[order.key], order))
        else:
            give_back(fits, section.device)
            if isinstance(answer := started(section, section.workload(order), order, fits), str):
                give_back(fits, section.device)  # the others need it
            orders.send(answer)


def started(section: Section, workload: Workload, key: str, fits: dict[str, Fit]) -> Memory | str:
    """Builds a training and does a few steps. Returns the memory of the process, or the error of one that does not fit
    on the card."""
    try:
        fits[key] = training(section, workload, "smile")
        fits[key].run(until=section.count(10, 1))
        taken_bytes(section.device)  # which waits for the card
    except RuntimeError as error:
        return first_line(error)
    if section.device.type != "cuda":
        return Memory(0, 0)
    return Memory(torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved())


def give_back(fits: dict[str, Fit], device: torch.device) -> None:
    """Ends all trainings of this process, with their memory on the card; a peak begins anew."""
    fits.clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before which there is no peak
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def steps_within(fit: Fit, window: Window) -> int:
    """Trains up to the window's end; returns the steps that were completed within it."""
    marks: list[torch.cuda.Event | None] = []
    before: list[int] = []

    def completed() -> int:
        return sum(mark is None or mark.query() for mark in marks)  # type: ignore[no-untyped-call]

    def watch() -> None:
        mark = torch.cuda.Event() if fit.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if mark is not None:
            mark.record()
        marks.append(mark)
        now_s = time.monotonic()
        if now_s >= window.starts_s and not before:
            before.append(completed())
        if now_s >= window.ends_s:
            raise WindowOver

    with suppress(WindowOver):
        fit.run(fit.num_steps, watch)
    return completed() - before[0]
