"""What the data path gains over torchvision's: `python -m benchmarks.data_path --root FOLDER`.

FOLDER holds train/ with a folder a class. The usual way is `ImageFolder` and a `DataLoader` of two workers that stay,
with the transforms that do to an image what this project does: squash, crop at random, mirror, normalise.

    training_images_per_s_ratio            plain fine-tuning of EfficientNet-Lite0 here, over the usual loop
                                           (contiguous, glibc's defaults), each in a process of its own
    training_images_per_s_ratio_same_step  the same, where the usual loader feeds this project's step
    data_path_ratio                        batches alone, up to normalised tensors
    second_start_ratio                     time to a second trial's first batch, over that to the first one's
    next_search_start_ratio                the same of a later search, which finds the images in the cache on disk
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.contestants import contestant
from benchmarks.figures import Figure, paired_ratio, report, skipped
from benchmarks.methods import fit, seconds
from trainables.backbones import build_network
from trainables.backbones.config import BackboneConfig
from trainables.data.batches import training_batch
from trainables.data.config import DataConfig
from trainables.data.examples import Inputs, as_inputs
from trainables.data.loading import load_train
from trainables.methods.l2 import L2
from trainables.training.loop import Fit
from trainables.types import Batch
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

CPU = torch.device("cpu")
BACKBONE = BackboneConfig(name="package/efficientnet_lite0")
MEAN = STD = (0.5, 0.5, 0.5)
"""Of that backbone."""
LOADER_WORKERS = 2
LEAD_IN = 2 * LOADER_WORKERS
"""Batches that the loader's workers have ready while it is the other's turn; they are taken before the clock starts."""
ALONE = 40
"""Batches in a turn where nothing is trained: many beside those that are under way when the clock starts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is short of its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_path")
    parser.add_argument("--root", type=Path, help="folder that holds train/; without it nothing is measured")
    for name, default in (("size-px", 128), ("batch-size", 24), ("steps", 20), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures; none where there is no folder."""
    if arguments.root is None or not (arguments.root / "train").is_dir():
        return skipped("no images: --root must name a folder that holds train/")
    usual, same_step = (training_ratio(way, arguments) for way in (usual_training, fed_by_the_loader))
    second, next_search = start_ratios(arguments)
    return [
        Figure("training_images_per_s_ratio", usual, 1.3, at_least=True),
        Figure("training_images_per_s_ratio_same_step", same_step, 1.0, at_least=True),
        Figure("data_path_ratio", data_path_ratio(arguments), 10.0, at_least=True),
        Figure("second_start_ratio", second, 0.1),
        Figure("next_search_start_ratio", next_search, 0.25),
    ]


def training_ratio(
    other: Callable[[argparse.Namespace], Callable[[int], float]], arguments: argparse.Namespace
) -> float:
    """Images a second here, over those of `other`; each in its process."""
    environment = {} if other is usual_training else WORKER_ENVIRONMENT
    with ExitStack() as stack:
        ours = stack.enter_context(contestant(our_training, arguments, environment=WORKER_ENVIRONMENT))
        theirs = stack.enter_context(
            contestant(other, arguments, environment=environment, without=tuple(WORKER_ENVIRONMENT))
        )
        for either in (ours, theirs):
            either.seconds(2)
        return paired_ratio(
            lambda: theirs.seconds(arguments.steps), lambda: ours.seconds(arguments.steps), arguments.pairs
        )


def our_training(arguments: argparse.Namespace) -> Callable[[int], float]:
    """This project's, as in a trial."""
    training = _fit(arguments)
    return lambda steps: _after_lead_in(training, steps)


def fed_by_the_loader(arguments: argparse.Namespace) -> Callable[[int], float]:
    """This project's step on the usual loader's batches, whose images are normalised already."""
    training, batches = _fit(arguments), endless(loader(arguments))
    training.method.student.backbone.embed = lambda inputs: inputs  # type: ignore[method-assign]

    def batch_at(step: int) -> Batch:
        images, labels = next(batches)
        return Batch(images, labels, labels, step)

    training.batch_at = batch_at
    return lambda steps: _after_lead_in(training, steps)


def usual_training(arguments: argparse.Namespace) -> Callable[[int], float]:
    """The loop that everybody writes, of the same network, with the same optimiser."""
    torch.set_num_threads(arguments.threads)
    batches = endless(loader(arguments))
    num_classes = len(ImageFolder(arguments.root / "train").classes)
    network = build_network(BACKBONE, num_classes, 0, keep_source_head=False).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def step() -> None:
        images, labels = next(batches)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images).target_logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def work(steps: int) -> float:
        for _ in range(LEAD_IN):
            step()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - started

    return work


def _fit(arguments: argparse.Namespace) -> Fit:
    torch.set_num_threads(arguments.threads)
    data = data_config(arguments)
    return fit(L2.Config(name="l2"), data, load_train(data), arguments)


def _after_lead_in(training: Fit, steps: int) -> float:
    training.run(training.step + LEAD_IN)
    return seconds(training, steps)


def data_config(arguments: argparse.Namespace) -> DataConfig:
    """Every image of the folder's training split."""
    return DataConfig(dataset="imagefolder", root=arguments.root, size_px=arguments.size_px)


def decoded(config: DataConfig) -> Inputs:
    """The images, as a trial has them."""
    return as_inputs(load_train(config), config, tokenize=None)


def loader(arguments: argparse.Namespace, num_batches: int | None = None) -> DataLoader[tuple[Tensor, Tensor]]:
    """The usual one, with epochs of all images, or of `num_batches`."""
    config = data_config(arguments)
    images = ImageFolder(arguments.root / "train", usual_transform(config.stored_px, config.size_px))
    return DataLoader(
        images,
        batch_size=arguments.batch_size,
        sampler=RandomSampler(images, num_samples=num_batches and num_batches * arguments.batch_size),
        drop_last=True,
        num_workers=LOADER_WORKERS,
        persistent_workers=True,
    )


def usual_transform(stored_px: int, size_px: int) -> Callable[..., Tensor]:
    """What torchvision users write for the view that `trainables.data.augmentation` cuts."""
    transform: Callable[..., Tensor] = transforms.Compose(
        [
            transforms.Resize((stored_px, stored_px), transforms.InterpolationMode.BICUBIC),
            transforms.RandomCrop(size_px),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return transform


def endless(batches: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(batches))


def data_path_ratio(arguments: argparse.Namespace) -> float:
    """Time of the usual loader's batches, over that of as many here, in one thread as a trial of one CPU has.

    The loader's epochs are as long as its turn: workers that went on filling their queue would take the cores from the
    other's.
    """
    torch.set_num_threads(1)
    config = data_config(arguments)
    images = decoded(config)
    embed = build_network(BACKBONE, 2, 0, keep_source_head=False).embed
    steps, epoch = itertools.count(1), loader(arguments, LEAD_IN + ALONE)

    def here() -> float:
        started = time.perf_counter()
        for _ in range(ALONE):
            embed(training_batch(images, config, arguments.batch_size, 0, next(steps), CPU).inputs)
        return time.perf_counter() - started

    def usual() -> float:
        batches = iter(epoch)
        for _ in range(LEAD_IN):
            next(batches)
        started = time.perf_counter()
        for _ in batches:
            pass
        return time.perf_counter() - started

    here(), usual()
    return paired_ratio(usual, here, arguments.pairs)


def start_ratios(arguments: argparse.Namespace) -> tuple[float, float]:
    """The first trial decodes; the second has what the first one decoded, as a worker has. That of a later search has
    the file that the first search left."""
    config = data_config(arguments)

    def first_batch(images: Inputs | None, seed: int) -> tuple[Inputs, float]:
        started = time.perf_counter()
        images = decoded(config) if images is None else images
        training_batch(images, config, arguments.batch_size, seed, 1, CPU)
        return images, time.perf_counter() - started

    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, TUNER_CACHE=cache):
        images, first_s = first_batch(None, seed=0)
        _, second_s = first_batch(images, seed=1)
        _, next_search_s = first_batch(None, seed=2)
    return second_s / first_s, next_search_s / first_s


if __name__ == "__main__":
    raise SystemExit(main())
