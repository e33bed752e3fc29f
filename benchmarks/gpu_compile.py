"""Section of `benchmarks.gpu`: what `training.compile` gains on a card, and what it takes, each mode in a process.

gpu_<mode>_over_plain            a step of SMILE that is compiled, over one that is not
gpu_<mode>_growth_a_training_mb  memory of the card that a process keeps of each of ten trainings

The processes compile at the same time, and are measured one after the other while the others wait: the card then does
nothing else, and what is taken of its memory meanwhile is taken by one of them. Printed besides: seconds of the first
step of each training.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext
from typing import get_args

import torch
import torch._inductor.config

from benchmarks.figures import seconds_of
from benchmarks.gpu_section import Section, in_turns, step_s, taken_bytes, training
from trainables.backbones.kept_networks import KeptNetworks
from trainables.training.loop import Fit
from trainables.types import CompileMode

LIMITS = {"default": 0.9}
GRAPHED = 0.8
"""Limit of the modes that replay CUDA graphs: the host then launches one for a step."""
MODES: tuple[CompileMode, ...] = tuple(mode for mode in get_args(CompileMode) if mode != "none")
ENDS_WITHIN_S = 1.0
"""How long a process that has closed its pipe, or is out of time, may take to end by itself."""
MEASURED_S = 12
"""Seconds on a card that a mode takes once it is compiled."""


def run(section: Section) -> None:
    """All modes, of which those that are not compiled in time are failed figures."""
    context = multiprocessing.get_context("fork")
    processes = [ModeProcess(section, context, mode) for mode in MODES]
    for process in processes:
        section.attempt(f"compile_{process.mode}", process.wait_until_compiled)
    for process in processes:
        if process.is_compiled:
            section.attempt(f"compile_{process.mode}", process.wait_until_measured)


class ModeProcess:
    """The process of a mode, which says when it has compiled, and measures when it is told to."""

    def __init__(self, section: Section, context: ForkContext, mode: CompileMode) -> None:
        self.section, self.mode, self.is_compiled = section, mode, False
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run_mode, args=(section, mode, theirs))
        self._process.start()
        theirs.close()

    def wait_until_compiled(self) -> None:
        """Leaves time to measure all modes. Raises RuntimeError if it is not compiled by then, or has crashed."""
        reserved_s = self.section.count(MEASURED_S * len(MODES), 1)
        if connection.wait([self._pipe], max(0.0, self.section.left_s - reserved_s)):
            with suppress(EOFError):  # it has ended, with a failed figure or an exit code
                self.is_compiled = self._pipe.recv() == "compiled"
                return
        self._end(0)

    def wait_until_measured(self) -> None:
        """Raises RuntimeError if it has not ended shortly before the deadline, or has crashed."""
        with suppress(BrokenPipeError):  # it has ended
            self._pipe.send("measure")
        self._end(max(0.0, self.section.left_s - self.section.count(3, 1)))

    def _end(self, seconds: float) -> None:
        self._process.join(max(seconds, ENDS_WITHIN_S))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()  # the card has its memory back before the next one is measured
            raise RuntimeError("it did not end in time")
        if self._process.exitcode:
            raise RuntimeError(f"exit code {self._process.exitcode}")


def run_mode(section: Section, mode: CompileMode, parent: Connection) -> None:
    """A process of one mode."""

    def wait_for_turn() -> None:
        parent.send("compiled")
        parent.recv()

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(section.scratch / f"compiled_{mode}")
    # The variable of the environment is read when this module is imported, which is long ago.
    torch._inductor.config.compile_threads = max(1, (os.cpu_count() or 1) // len(MODES))
    with traced_alone() if section.is_rehearsal else nullcontext():
        section.attempt(f"compile_{mode}", partial(measure, section, mode, wait_for_turn))


@contextmanager
def traced_alone() -> Iterator[None]:
    """Everything of torch.compile but the compiler, which takes minutes on a CPU."""
    with torch.compiler.set_stance("default", force_backend="eager"):
        yield


def measure(section: Section, mode: CompileMode, wait_for_turn: Callable[[], None]) -> None:
    """The figures of a mode, and seconds of first steps, each written when it is known."""
    workload, kept, taken = section.workload("small"), KeptNetworks(), []
    for number in range(1, section.count(10, 2) + 1):
        if number > 2 and not section.has_time_for(f"training {number} of {mode}", 5):
            break
        fit = training(section, workload, "smile", compile=mode, kept=kept)
        section.value(f"compile_{mode}_first_step_of_training_{number}", seconds_of(partial(fit.run, 1)), "s")
        fit.run(until=4)  # the third step replays what the second has recorded
        if number == 1:
            wait_for_turn()
            measure_step(section, mode, fit)
        del fit
        taken.append(kept_bytes(section))
    growth = (taken[-1] - taken[0]) / (len(taken) - 1) / 1e6
    section.figure(f"{mode}_growth_a_training_mb", growth, 5)


def measure_step(section: Section, mode: CompileMode, fit: Fit) -> None:
    """Time of a step of a compiled training, in turns with one that is not."""
    plain = training(section, section.workload("small"), "smile")
    plain.run(until=4)
    num_steps = section.count(20, 1)
    ways: dict[str, Callable[[], float]] = {
        "plain": partial(step_s, plain, num_steps),
        "compiled": partial(step_s, fit, num_steps),
    }
    steps = in_turns(ways, section.count(3))
    section.value(f"compile_{mode}_step", 1e3 * steps["compiled"], "ms")
    section.figure(f"{mode}_over_plain", steps["compiled"] / steps["plain"], LIMITS.get(mode, GRAPHED))


def kept_bytes(section: Section) -> int:
    """Bytes in use on the card once this process has given back what nothing uses. Beside its networks they are its
    context, its code and recordings of graphs, which are outside of torch's allocator, and those of waiting processes.
    """
    gc.collect()
    if section.device.type == "cuda":
        torch.cuda.empty_cache()
    return taken_bytes(section.device)
