"""Whether eight workers on one dataset hold one copy of it: `python -m benchmarks.shared_memory`.

Workers of a Ray cluster of this machine's own get decoded images from the object store, as trials do, and take one
epoch of batches. Measured while all of them hold it, in PSS, where memory that n processes share counts as 1/n in each.

    eight_workers_copies        growth of all workers together, over the dataset's size
    worker_private_share        the most that one of them has for itself alone, over the dataset's size
    eight_workers_copies_mapped the first where the images are too many for the object store: each maps their file
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import ray
import torch

from benchmarks.figures import Figure, report
from benchmarks.memory import kib
from trainables.data import mapped_pixels
from trainables.data.batches import steps_per_epoch, training_batch
from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.data.mapped_pixels import PixelFile
from tuner.cli.console import output_redirected_to
from tuner.cluster.connection import cluster
from tuner.cluster.tasks import put_shared
from tuner.resources.share import num_cpus

CPU = torch.device("cpu")
STORED_PX, SIZE_PX, BATCH_SIZE = 146, 128, 24
WARM_UP = 20 * BATCH_SIZE
"""Images that the workers take up first, so that what they need for batches at all is not counted."""


class Worker:
    """One that trials would run in."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def apply_warm_start(self, images: LabelledImages) -> None:
        """Keeps the images, and takes an epoch of batches."""
        self.images = images
        data = DataConfig(dataset="imagefolder", size_px=SIZE_PX)
        for step in range(1, 1 + steps_per_epoch(len(self.images), BATCH_SIZE)):
            training_batch(self.images, data, BATCH_SIZE, 0, step, CPU)

    def kib(self) -> tuple[int, int]:
        """PSS, and what is private, now."""
        gc.collect()
        return kib("Pss"), kib("Private_Dirty", "Private_Clean")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_memory")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--images", type=int, default=6000, help="of 146 px: 64 kB each")
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder, output_redirected_to(Path(folder) / "ray.log"), cluster(None):

        def next_larger_share(made: Callable[[int], LabelledImages]) -> tuple[list[float], list[float]]:
            """By how many copies each worker's memory grows, PSS and private, where `made` makes so many images. Of
            workers that have had nothing else: what they once read of the object store stays in their PSS."""
            remote: Any = ray.remote(num_cpus=num_cpus() / arguments.workers)(Worker)
            workers = [remote.remote() for _ in range(arguments.workers)]
            before, after = held(workers, made(WARM_UP)), held(workers, made(arguments.images))
            for worker in workers:
                ray.kill(worker)
            size_kib = (arguments.images - WARM_UP) * STORED_PX**2 * 3 / 1024
            pss, private = ((np.array(after) - np.array(before)).T / size_kib).tolist()
            return pss, private

        pss, private = next_larger_share(blank)
        with mock.patch.object(mapped_pixels, "SHARE_OF_MEMORY", 0.0):
            pss_mapped, _ = next_larger_share(lambda count: in_file(blank(count), Path(folder)))
    return [
        Figure("eight_workers_copies", sum(pss), 1.1),
        Figure("worker_private_share", max(private), 0.05),
        Figure("eight_workers_copies_mapped", sum(pss_mapped), 1.1),
    ]


def held(workers: Sequence[Any], images: LabelledImages) -> list[tuple[int, int]]:
    """What each worker takes of memory (KiB) once all have taken up the images."""
    reference = put_shared(images)
    ray.get([worker.apply_warm_start.remote(reference) for worker in workers])
    measured: list[tuple[int, int]] = ray.get([worker.kib.remote() for worker in workers])
    return measured


def blank(count: int) -> LabelledImages:
    """Images of no content; what they take of memory is not less."""
    pixels = np.full((count, STORED_PX, STORED_PX, 3), 7, dtype=np.uint8)
    return LabelledImages.of(pixels, np.arange(count) % 2, ("a", "b"))


def in_file(images: LabelledImages, folder: Path) -> LabelledImages:
    """The same images, in a file in `folder`."""
    file = PixelFile(folder / f"images-{len(images)}", "blank", (len(images), STORED_PX, STORED_PX, 3))
    file.write([images.pixels])
    return LabelledImages.of(file.open(), images.labels, images.class_names, file)


if __name__ == "__main__":
    raise SystemExit(main())
