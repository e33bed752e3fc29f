"""Section of `benchmarks.gpu`: what `training.compile` gains on a card, and what it takes, each mode in a process.

gpu_<mode>_over_plain            a step of SMILE that is compiled, over one that is not
gpu_<mode>_growth_a_training_mb  memory that a process keeps of each of ten trainings, which are gone

Printed besides: seconds of the first step of the first, second and last training.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing.context import ForkProcess
from typing import get_args

import torch

from benchmarks.figures import seconds_of
from benchmarks.gpu_section import Section, in_turns, step_s, training
from trainables.types import CompileMode

LIMITS = {"default": 0.9}
GRAPHED = 0.8
"""Limit of the modes that replay CUDA graphs: the host then launches one for a step."""
MODES = tuple(mode for mode in get_args(CompileMode) if mode != "none")


def run(section: Section) -> None:
    """All modes at the same time, on different cores; the step itself is timed in turns with a plain one."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=run_mode, args=(section, mode)) for mode in MODES]
    for process in processes:
        process.start()
    for mode, process in zip(MODES, processes, strict=True):
        section.attempt(f"compile_{mode}", partial(wait_for, section, mode, process))


def wait_for(section: Section, mode: str, process: ForkProcess) -> None:
    """Waits for the process of a mode, or ends it shortly before the deadline. Raises RuntimeError where it crashed."""
    process.join(max(0.0, section.left_s - section.count(5, 1)))
    if process.is_alive():
        process.kill()
        print(f"left out: the rest of {mode}", flush=True)
    elif process.exitcode:
        raise RuntimeError(f"exit code {process.exitcode}")


def run_mode(section: Section, mode: CompileMode) -> None:
    """A process of one mode."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(section.scratch / f"compiled_{mode}")
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(MODES)))
    with traced_alone() if section.is_rehearsal else nullcontext():
        section.attempt(f"compile_{mode}", partial(measure, section, mode))


@contextmanager
def traced_alone() -> Iterator[None]:
    """Everything of torch.compile but the compiler, which takes minutes on a CPU."""
    with torch.compiler.set_stance("default", force_backend="eager"):
        yield


def measure(section: Section, mode: CompileMode) -> None:
    """The figures of a mode, and seconds of first steps."""
    workload = section.workload("small")
    first_s, taken = [], []
    num_trainings = section.count(10, 2)
    for number in range(num_trainings):
        if number > 1 and not section.has_time_for("more compiled trainings", 10):
            break
        fit = training(section, workload, "smile", compile=mode)
        first_s.append(seconds_of(partial(fit.run, 1)))
        fit.run(until=4)  # the third step replays what the second has recorded
        compiled_s = partial(step_s, fit, section.count(20, 1))
        if number == 0:
            plain = training(section, workload, "smile")
            plain.run(until=4)
            steps = in_turns(
                {"plain": partial(step_s, plain, section.count(20, 1)), mode: compiled_s}, section.count(3)
            )
            section.value(f"compile_{mode}_step", 1e3 * steps[mode], "ms")
            section.figure(f"{mode}_over_plain", steps[mode] / steps["plain"], LIMITS.get(mode, GRAPHED))
            del plain
        del fit, compiled_s
        gc.collect()
        taken.append(kept_bytes(section))
    for which, index in {"first": 0, "second": 1, "last": -1}.items():
        section.value(f"compile_{mode}_first_step_of_{which}", first_s[min(index, len(first_s) - 1)], "s")
    if len(taken) > 1:
        growth = (taken[-1] - taken[0]) / (len(taken) - 1) / 1e6
        section.figure(f"{mode}_growth_a_training_mb", growth, 5)


def kept_bytes(section: Section) -> int:
    """Bytes of the card that this process keeps once nothing uses them, as recordings of graphs do."""
    if section.device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()
