"""What only a GPU can say, within some minutes: `python -m benchmarks.gpu --seconds 540 --out DIR`.

Needs PyTorch, timm, pydantic and the weights of efficientnet_lite0 alone: no Ray, no MLflow, no other weights, and no
dataset. The card should be nobody else's: its memory is filled for a moment, to see which errors that makes. Each
section is a process with a deadline of its own, in the order of their worth; one that breaks off does not keep the
others from running. A figure is printed when it is known, as `name value limit ok|short`, and written as a line of
JSON to DIR/figures.jsonl. `--device cpu --seconds 60` rehearses it on tiny networks: the same code, other numbers.

    rightness    loss and gradient of every method as on the CPU, resuming, errors of memory, folding; what the card is
    steps        SMILE over plain fine-tuning, in bf16 and fp32: time, kernels, memory, waits; a trace in DIR
    sharing      one to eight processes on the card; `sharing_mps` the same with NVIDIA's MPS, where it is installed
    compile      the modes of `training.compile`
    data         images on the card, on the host, and the usual loop
    folds        whole folds: what is not steps, what a checkpoint costs, what stays on the card
    ablation     what each way to make a step faster does
    fused        three folds as one model
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch

from benchmarks.figures import Figure, skipped
from benchmarks.gpu_section import FIGURES, Section, results_in
from trainables.backbones.packaged import PACKAGED
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

MPS = "nvidia-cuda-mps-control"
MPS_FOLDERS = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
MPS_TIMEOUT_S = 10.0
"""Seconds in which NVIDIA's program has to answer, as nothing else happens meanwhile."""
GRACE_S = 3.0
"""Seconds between the deadline that a section knows and its end by force."""


class Part(NamedTuple):
    """A section: its name, function, seconds of 540 on a card and of 60 in a rehearsal, and whether it is below MPS."""

    name: str
    function: str
    seconds: float
    rehearsed_s: float
    mps: bool = False

    @property
    def run(self) -> Callable[[Section], None]:
        """The function, from its module."""
        module, _, name = self.function.partition(":")
        run: Callable[[Section], None] = getattr(importlib.import_module(f"benchmarks.{module}"), name)
        return run


PARTS = (
    Part("rightness", "gpu_rightness:run", 35, 10),
    Part("steps", "gpu_steps:run", 110, 8),
    Part("sharing", "gpu_sharing:run", 70, 8),
    Part("compile", "gpu_compile:run", 110, 12),
    Part("data", "gpu_data:run", 60, 4),
    Part("folds", "gpu_folds:run", 40, 5),
    Part("sharing_mps", "gpu_sharing:run_with_mps", 60, 5, mps=True),
    Part("ablation", "gpu_steps:run_ablation", 40, 5),
    Part("fused", "gpu_folds:run_fused", 15, 3),
)
MODULES = sorted({f"benchmarks.{part.function.partition(':')[0]}" for part in PARTS})


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is short of its limit, or failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all of it (default: %(default)g)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a folder for figures and a trace (default: a new one)")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto", help="cpu: a rehearsal")
    parser.add_argument("--only", nargs="*", choices=[part.name for part in PARTS], default=[], metavar="SECTION")
    return int(bool(measure(parser.parse_args(argv))))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Runs the sections, which print their figures. Returns those that are short of their limits, or failed."""
    ends_s = time.monotonic() + arguments.seconds
    weights = PACKAGED["efficientnet_lite0"].package
    if find_spec(weights) is None:
        raise SystemExit(f"expected the package {weights}, got none: it has the weights of most sections")
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if arguments.device == "cpu" else {}
    quiet = {"KINETO_LOG_LEVEL": "5"}  # the profiler's own log
    with mock.patch.dict(os.environ, {**WORKER_ENVIRONMENT, **quiet, **os.environ, **hidden}):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(MODULES)  # so that each section is forked, and imports nothing
        device = "cpu" if arguments.device == "cpu" else device_of_a_process(context)
        if device != "cuda" and arguments.device == "auto":
            return skipped("no GPU (--device cpu rehearses it)")
        if device != arguments.device and arguments.device == "cuda":
            raise SystemExit("CUDA does not start: see what `python -c 'import torch; torch.cuda.init()'` says")
        out = arguments.out or Path(tempfile.mkdtemp(prefix="gpu-"))
        out.mkdir(parents=True, exist_ok=True)
        (out / FIGURES).unlink(missing_ok=True)
        print(f"figures in {out}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            parts = [part for part in PARTS if not arguments.only or part.name in arguments.only]
            run_parts(context, parts, Section("", torch.device(device), out, Path(scratch), ends_s))
    return missed_in(out, is_rehearsal=device == "cpu")


def run_parts(context: ForkServerContext, parts: Sequence[Part], whole: Section) -> None:
    """One after the other. Time that one leaves is shared by those after it."""
    planned = [part.rehearsed_s if whole.is_rehearsal else part.seconds for part in parts]
    for number, part in enumerate(parts):
        share = planned[number] / sum(planned[number:])
        seconds = (whole.left_s - GRACE_S) * share
        if seconds < 1:
            print(f"left out: {part.name}, as the time is over", flush=True)
            continue
        if part.mps and shutil.which(MPS) is None and not whole.is_rehearsal:
            print(f"left out: {part.name}, as there is no {MPS}", flush=True)
            continue
        print(f"\n{part.name}, {seconds:.0f} s", flush=True)
        section = Section(part.name, whole.device, whole.out, whole.scratch, time.monotonic() + seconds)
        section.attempt(part.name, partial(run_part, context, part, section))


def run_part(context: ForkServerContext, part: Part, section: Section) -> None:
    """Runs one, below MPS where it is to. Raises RuntimeError, or MPS's error, where it breaks off."""
    with mps(section.scratch) if part.mps and not section.is_rehearsal else nullcontext():
        run_in_process(context, part, section)


def run_in_process(context: ForkServerContext, part: Part, section: Section) -> None:
    """Runs one in a process, which is ended with all of its own soon after its deadline."""
    variables = {name: os.environ[name] for name in MPS_FOLDERS if name in os.environ}
    process = context.Process(target=_in_process, args=(part, section, variables))
    process.start()
    process.join(section.left_s + GRACE_S)
    reason = f"exit code {process.exitcode}" if process.exitcode is not None else "it did not end in time"
    _end(process)
    if reason != "exit code 0":
        raise RuntimeError(reason)


def _in_process(part: Part, section: Section, variables: dict[str, str]) -> None:
    os.setsid()  # so that it can be ended with its own processes
    os.environ.update(variables)
    part.run(section)


def _end(process: ForkServerProcess) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):  # nothing is left of it, or it has not begun yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


def missed_in(out: Path, is_rehearsal: bool) -> list[Figure]:
    """The figures that are short or failed, and prints how many; short ones of a rehearsal only if they are of what is
    right, which does not depend on the machine."""
    written = [line for line in results_in(out) if "result" in line]
    missed = [
        Figure(line["name"], line["value"], line.get("limit", 0.0), line.get("at_least", False))
        for line in written
        if line["result"] == "failed" or (line["result"] == "short" and _counts(line["name"], is_rehearsal))
    ]
    print(f"\n{len(written)} figures, {len(missed)} missed", flush=True)
    return missed


def _counts(name: str, is_rehearsal: bool) -> bool:
    return not is_rehearsal or name.startswith("gpu_right")


def device_of_a_process(context: ForkServerContext) -> str:
    """`cuda` where CUDA starts in a process, else `cpu`. Not in this one: MPS wants no client that is there before."""
    process = context.Process(target=_exit_by_device)
    process.start()
    process.join()
    return "cuda" if process.exitcode == 0 else "cpu"


def _exit_by_device() -> None:
    sys.exit(0 if torch.cuda.is_available() else 1)


@contextmanager
def mps(folder: Path) -> Iterator[None]:
    """NVIDIA's multi-process service, for processes that start within the block."""
    variables = {name: str(folder / "mps") for name in MPS_FOLDERS}
    (folder / "mps").mkdir()
    with mock.patch.dict(os.environ, variables):
        ask = partial(subprocess.run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=MPS_TIMEOUT_S)
        try:
            ask([MPS, "-d"], check=True)
            yield
        finally:
            with suppress(subprocess.TimeoutExpired, OSError):  # what was measured stands
                ask([MPS], input=b"quit\n", check=False)


if __name__ == "__main__":
    raise SystemExit(main())
