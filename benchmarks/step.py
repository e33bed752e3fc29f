"""What a training step costs, and what it would without what this project does: `python -m benchmarks.step`.

smile_over_plain             a step of SMILE over one of plain fine-tuning
frozen_over_train            a step of plain fine-tuning with frozen BatchNorm over one without, in processor time
smile_frozen_over_train      the same of SMILE
folded_over_as_it_is         with frozen BatchNorm folded into the convolutions over not folded, in processor time
ema_together_over_one_by_one the teacher's moving average over all tensors at once, over a loop
channels_last_over_contiguous  a step of plain fine-tuning in either layout of memory
allocator_over_default       with the workers' environment over without, each time in a fresh process
own_core_over_all_cores      two trials at once, each with a thread on a core of its own, over both with as many threads
                             as there are cores
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import torch

from benchmarks import allocator
from benchmarks.contestants import Contestant, contestant
from benchmarks.figures import Figure, paired_ratio, report, seconds_of
from benchmarks.methods import fit, in_turn, seconds
from benchmarks.methods import measure as method_ratio
from trainables.backbones.frozen_batchnorm import FrozenBatchNorm
from trainables.data.config import DataConfig
from trainables.data.loading import load_train
from trainables.methods import METHODS
from trainables.methods.l2 import L2
from trainables.methods.smile import Smile
from trainables.methods.teacher import ema_update
from trainables.training.loop import Fit
from tuner.resources.share import num_cpus
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

EMA_CALLS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step")
    for name, default in (("size-px", 128), ("batch-size", 24), ("steps", 2), ("pairs", 12), ("processes", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="FIGURE")
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures, or those of `only`."""
    torch.set_num_threads(arguments.threads)
    data = data_config(arguments)
    images = load_train(data)
    in_processes = argparse.Namespace(**vars(arguments) | {"pairs": arguments.processes, "steps": 4 * arguments.steps})
    ratios: dict[str, tuple[Callable[[], float], float]] = {
        "smile_over_plain": (lambda: method_ratio("smile", data, images, arguments), 1.15),
        "frozen_over_train": (lambda: frozen_ratio("l2", arguments), 0.95),
        "smile_frozen_over_train": (lambda: frozen_ratio("smile", arguments), 0.95),
        "folded_over_as_it_is": (lambda: folded_ratio(arguments), 1.0),
        "ema_together_over_one_by_one": (lambda: ema_ratio(arguments), 1.0),
        "channels_last_over_contiguous": (lambda: layout_ratio(arguments), 1.0),
        "allocator_over_default": (lambda: allocator.ratio(in_processes, WORKER_ENVIRONMENT, {}), 1.0),
        "own_core_over_all_cores": (lambda: threads_ratio(arguments), 1.0),
    }
    chosen = {name: ratios[name] for name in ratios if not arguments.only or name in arguments.only}
    return [Figure(name, ratio(), limit) for name, (ratio, limit) in chosen.items()]


def data_config(arguments: argparse.Namespace) -> DataConfig:
    """Digits of any size: what a step costs does not depend on what is seen."""
    return DataConfig(dataset="digits", train_images=120, test_images=10, size_px=arguments.size_px, flip=False)


def frozen_ratio(method: str, arguments: argparse.Namespace) -> float:
    """Of a step of the method."""
    config = METHODS[method].Config(name=method)
    data = data_config(arguments)
    images = load_train(data)
    frozen, train = (fit(config, data, images, arguments, batch_norm=how) for how in ("frozen", "train"))
    return in_turn_by_processor(frozen, train, arguments)


def folded_ratio(arguments: argparse.Namespace) -> float:
    """Of a step of plain fine-tuning with frozen BatchNorm."""
    data = data_config(arguments)
    images = load_train(data)
    folded, as_it_is = (fit(L2.Config(), data, images, arguments, batch_norm="frozen") for _ in range(2))
    as_it_is.batch_norm = FrozenBatchNorm(as_it_is.method.student.backbone, fold=False)
    return in_turn_by_processor(folded, as_it_is, arguments)


def in_turn_by_processor(this: Fit, other: Fit, arguments: argparse.Namespace) -> float:
    """As `in_turn`, but counts what this process takes of a processor, whatever else runs on the machine."""

    def processor_seconds(training: Fit) -> float:
        started_s = time.process_time()
        training.run(training.step + arguments.steps)
        return time.process_time() - started_s

    ours, others = (partial(processor_seconds, training) for training in (this, other))
    for warm_up in (ours, others):
        warm_up()
    return paired_ratio(ours, others, arguments.pairs)


def ema_ratio(arguments: argparse.Namespace) -> float:
    """Of the backbone's parameters."""
    data = data_config(arguments)
    smile = fit(Smile.Config(), data, load_train(data), arguments).method
    assert isinstance(smile, Smile)
    assert smile.teacher is not None
    teacher, student = smile.teacher.backbone, smile.student.backbone

    @torch.no_grad()
    def one_by_one() -> None:
        for kept, new in zip(teacher.parameters(), student.parameters(), strict=True):
            kept.mul_(0.999).add_(new, alpha=0.001)

    together = partial(ema_update, teacher, student, 0.999)
    for warm_up in (together, one_by_one):
        warm_up()
    ours, others = (partial(seconds_of, partial(a_few, way)) for way in (together, one_by_one))
    return paired_ratio(ours, others, arguments.pairs)


def a_few(call: Callable[[], None]) -> None:
    """Calls it."""
    for _ in range(EMA_CALLS):
        call()


def layout_ratio(arguments: argparse.Namespace) -> float:
    """Of a step of plain fine-tuning."""
    data = data_config(arguments)
    images = load_train(data)
    ours, contiguous = (
        fit(L2.Config(), data, images, arguments, channels_last=channels_last) for channels_last in (True, False)
    )
    return in_turn(ours, contiguous, arguments)


def threads_ratio(arguments: argparse.Namespace) -> float:
    """Time of two trials at once."""
    with ExitStack() as stack:

        def two(threads: int, environment: dict[str, str], without: tuple[str, ...]) -> list[Contestant]:
            return [
                stack.enter_context(contestant(training, arguments, threads, environment=environment, without=without))
                for _ in range(2)
            ]

        ours = two(1, WORKER_ENVIRONMENT, ())
        others = two(num_cpus(), {}, (*WORKER_ENVIRONMENT, "OMP_NUM_THREADS"))
        for both in (ours, others):
            at_once(both, 1)
        return paired_ratio(
            partial(at_once, ours, arguments.steps), partial(at_once, others, arguments.steps), arguments.processes
        )


def at_once(both: Sequence[Contestant], amount: int) -> float:
    """Mean seconds of what they do at the same time."""
    for each in both:
        each.begin(amount)
    return sum(each.ended() for each in both) / len(both)


def training(arguments: argparse.Namespace, threads: int) -> Callable[[int], float]:
    """A trial's steps, in a process of its own."""
    torch.set_num_threads(threads)
    data = data_config(arguments)
    return partial(seconds, fit(L2.Config(), data, load_train(data), arguments))


if __name__ == "__main__":
    raise SystemExit(main())
