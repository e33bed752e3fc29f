"""Section of `benchmarks.gpu`: processes that share a card, as the trials of a search do, without and with MPS.

All processes are there from the start; k of them train SMILE in bf16 within a window that begins and ends for all at
the same time. Only steps that the card has completed within the window count.

gpu_k8_over_1_<network>[_mps]   images a second of eight processes together, over those of one
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.gpu_section import Section, Workload, card_bytes_in_use, taken_bytes, training
from trainables.training.loop import Fit

PROCESSES = 8
AT_LEAST = {"effnet64": 2.5, "resnet50": 1.1}
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


def run(section: Section, suffix: str = "") -> None:
    """The figures of each network, with all processes at once in the end."""
    count = section.count(PROCESSES, 2)
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(section)) for _ in range(count)]
        for key in ("small", "large"):
            section.attempt(f"sharing_{key}{suffix}", partial(measure, section, workers, key, suffix))


def run_with_mps(section: Section) -> None:
    """The same below NVIDIA's multi-process service, which the caller has started."""
    run(section, "_mps")


def measure(section: Section, workers: list[Connection], key: str, suffix: str) -> None:
    """Images a second of 1, 2, 4, … processes."""
    label = section.workload(key).label
    for each in workers:
        each.send(key)
    if failed := [said for each in workers if (said := received(each)) is not None]:
        raise RuntimeError(f"{len(failed)} of {len(workers)} processes cannot train it: {failed[0]}")
    rates: dict[int, float] = {}
    counts = [count for count in (1, 2, 4, 8) if count <= len(workers)]
    for count in counts:
        if section.has_time_for(f"{count} processes of {label}", section.count(5) + 2):
            rates[count] = images_per_s(section, workers[:count], key)
            section.value(f"images_{label}_of_{count}{suffix}", rates[count], "images/s")
    if (in_use := card_bytes_in_use()) is not None:
        section.value(f"card_gib_of_{len(workers)}_{label}{suffix}", in_use / 2**30, "GiB")
    most = max(rates, default=1)
    if most > 1 and not rates[1]:
        print(f"left out: {label}, of which no step ended within a window", flush=True)
    elif most > 1:
        section.figure(f"k{most}_over_1_{label}{suffix}", rates[most] / rates[1], AT_LEAST[label], at_least=True)


def images_per_s(section: Section, workers: list[Connection], key: str) -> float:
    """Of so many processes together, in one window."""
    length_s = 5.0 if not section.is_rehearsal else 0.5
    starts_s = time.monotonic() + LEAD_S
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
            fits.clear()
            orders.send(started(section, section.workload(order), order, fits))


def started(section: Section, workload: Workload, key: str, fits: dict[str, Fit]) -> str | None:
    """Builds a training and does a few steps; returns the error of one that does not fit into the card's memory."""
    try:
        if section.device.type == "cuda":
            torch.cuda.empty_cache()
        fits[key] = training(section, workload, "smile")
        fits[key].run(until=section.count(10, 1))
        taken_bytes(section.device)  # which waits for the card
    except RuntimeError as error:
        return str(error)
    return None


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
