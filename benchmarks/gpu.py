"""The same on a graphics card: `python -m benchmarks.gpu`. Without one it says so, and measures nothing.

ResNet-50 at 224 px, batches of 48, SMILE in bf16, with weights that are drawn, not trained: what a step costs does not
depend on them. One to eight trials share the card as processes, without and with NVIDIA's MPS where it is installed.

    gpu_smile_over_plain      a step of SMILE over one of plain fine-tuning
    gpu_compiled_over_plain   a step of SMILE with `training.compile: default` over one without, once compiled
    gpu_graphed_over_plain    with `reduce-overhead`, which replays CUDA graphs
    gpu_trials_N, …_mps       images a second of N trials together, over those of one alone; both are printed
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import timm
import torch

from benchmarks.contestants import contestant
from benchmarks.figures import Figure, report, skipped
from benchmarks.methods import in_turn, seconds
from trainables.backbones.config import BackboneConfig
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.loading import load_train
from trainables.methods import METHODS
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit
from trainables.trial import default_device, start_fit
from trainables.types import CompileMode
from tuner.cluster.connection import WORKER_ENVIRONMENT

ARCHITECTURE, SIZE_PX = "resnet50", 224
NONE: CompileMode = "none"
COMPILED: dict[str, CompileMode] = {"compiled": "default", "graphed": "reduce-overhead"}
MPS = "nvidia-cuda-mps-control"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is short of its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--trials", type=int, nargs="*", default=[1, 2, 4, 8])
    for name, default in (("batch-size", 48), ("steps", 20), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures; none without a GPU."""
    if not torch.cuda.is_available():
        return skipped("no GPU: SMILE's step, trials that share a card, MPS")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(timm.create_model(ARCHITECTURE).state_dict(), weights)
        figures = [Figure("gpu_smile_over_plain", smile_over_plain(weights, arguments), 1.10)]
        figures += [
            Figure(f"gpu_{name}_over_plain", compiled_over_plain(mode, weights, arguments), 1.0)
            for name, mode in COMPILED.items()
        ]
        figures += packed(weights, arguments, "")
        if shutil.which(MPS) is None:
            print(f"skipped: no {MPS}", flush=True)
            return figures
        with mps(Path(folder)):
            return figures + packed(weights, arguments, "_mps")


def smile_over_plain(weights: Path, arguments: argparse.Namespace) -> float:
    """In one process, in turn."""
    smile, plain = (training_of(name, weights, arguments.batch_size) for name in ("smile", "l2"))
    return in_turn(smile, plain, arguments)


def compiled_over_plain(mode: CompileMode, weights: Path, arguments: argparse.Namespace) -> float:
    """In one process, in turn."""
    ours, plain = (training_of("smile", weights, arguments.batch_size, each) for each in (mode, NONE))
    return in_turn(ours, plain, arguments)


def packed(weights: Path, arguments: argparse.Namespace, suffix: str) -> list[Figure]:
    """Throughput of trials that share the card."""
    rates = {count: images_per_s(count, weights, arguments) for count in arguments.trials}
    for count, rate in rates.items():
        print(f"{count} trials{suffix}: {rate:.0f} images/s on {torch.cuda.get_device_name()}", flush=True)
    alone = rates[min(rates)]
    return [Figure(f"gpu_trials_{n}{suffix}", rate / alone, 1.0, at_least=True) for n, rate in rates.items()]


def images_per_s(count: int, weights: Path, arguments: argparse.Namespace) -> float:
    """Of so many trials at once, together."""
    with ExitStack() as stack:
        trials = [
            stack.enter_context(contestant(work, weights, arguments.batch_size, environment=WORKER_ENVIRONMENT))
            for _ in range(count)
        ]
        for steps in (3, arguments.steps):  # the first to warm up
            for trial in trials:
                trial.begin(steps)
            took_s = [trial.ended() for trial in trials]
    return sum(float(arguments.steps * arguments.batch_size) / each_s for each_s in took_s)


def work(weights: Path, batch_size: int) -> Callable[[int], float]:
    """One trial, in its process."""
    torch.set_num_threads(1)
    return partial(seconds, training_of("smile", weights, batch_size))


def training_of(method: str, weights: Path, batch_size: int, compile: CompileMode = "none") -> Fit:
    """At step 0, in bf16."""
    data = DataConfig(dataset="digits", train_images=240, test_images=10, size_px=SIZE_PX, flip=False)
    config = TrialConfig(
        data=data,
        backbone=BackboneConfig(name=f"timm/{ARCHITECTURE}", checkpoint=weights),
        method=METHODS[method].Config(name=method),
        training=TrainingConfig(
            num_steps=9000, batch_size=batch_size, learning_rate=1e-4, precision="bf16", compile=compile
        ),
    )
    return start_fit(config, load_train(data), seed=0, device=default_device())


@contextmanager
def mps(folder: Path) -> Iterator[None]:
    """NVIDIA's multi-process service, for processes that start within the block."""
    pipe = {f"CUDA_MPS_{name}_DIRECTORY": str(folder) for name in ("PIPE", "LOG")}
    os.environ.update(pipe)
    subprocess.run([MPS, "-d"], check=True)
    try:
        yield
    finally:
        subprocess.run([MPS], input="quit\n", text=True, check=True)
        for name in pipe:
            del os.environ[name]


if __name__ == "__main__":
    raise SystemExit(main())
