"""Section of `benchmarks.gpu`: images a second, by where the images are.

gpu_resident_of_ceiling   with the images on the card, over a training that takes one batch again and again
gpu_host_of_ceiling       with batches that are cut on the host
gpu_over_usual            resident, over a usual loop: a DataLoader with workers, torchvision's transforms, autocast
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.figures import seconds_of
from benchmarks.gpu_section import Section, Workload, backbone_config, data_config, in_turns, step_s, training
from trainables.backbones import build_network
from trainables.data import batches
from trainables.data.config import DataConfig
from trainables.data.gpu_pixels import GpuPixelCache
from trainables.data.loading import load_train
from trainables.training.loop import Fit

CLASSES = ("ash", "birch")
LOADER_WORKERS = 14
BATCHES_A_WORKER = 3
"""Batches of a worker in shared memory: two that are fetched ahead, and the one that is being taken."""


def run(section: Section) -> None:
    """The figures of the network of a search, then of a large one."""
    photographs = draw_photographs(section.scratch / "photographs", section.count(200, 12))
    with mock.patch.dict(os.environ, TUNER_CACHE=str(section.scratch / "cache")):
        for key in ("medium", "large"):
            workload = section.workload(key)
            if section.has_time_for(workload.label, 20):
                section.attempt(f"data_{workload.label}", partial(measure, section, workload, photographs))


def draw_photographs(root: Path, count: int) -> Path:
    """Writes JPEGs of 320×240 into a folder a class below `root`/train."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / "train" / CLASSES[number % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return root


def measure(section: Section, workload: Workload, root: Path) -> None:
    """Images a second of each way, in turns, of plain fine-tuning in bf16."""
    data = data_config(workload).model_copy(update={"root": root})
    examples = load_train(data)
    num_steps = section.count(40, 2)
    resident, host, ceiling = (training(section, workload, "l2", examples=examples) for _ in range(3))
    batch = ceiling.batch_at(1)
    ceiling.batch_at = lambda step: batch
    usual = usual_step(section, workload, data)
    ways: dict[str, Callable[[], float]] = {
        "resident": partial(step_s, resident, num_steps),
        "host": partial(from_host_s, host, num_steps),
        "ceiling": partial(step_s, ceiling, num_steps),
        "usual": lambda: seconds_of(lambda: [usual() for _ in range(num_steps)]) / num_steps,
    }
    for warm_up in ways.values():
        warm_up()
    rates = {way: workload.batch_size / each_s for way, each_s in in_turns(ways, section.count(3)).items()}
    for way, rate in rates.items():
        section.value(f"{way}_{workload.label}", rate, "images/s")
    section.figure(f"resident_of_ceiling_{workload.label}", rates["resident"] / rates["ceiling"], 0.95, at_least=True)
    section.figure(f"host_of_ceiling_{workload.label}", rates["host"] / rates["ceiling"], 0.90, at_least=True)
    section.figure(f"over_usual_{workload.label}", rates["resident"] / rates["usual"], 1.3, at_least=True)


def from_host_s(fit: Fit, num_steps: int) -> float:
    """Seconds of a step where no image stays on the card."""
    with mock.patch.object(batches, "_GPU_PIXELS", GpuPixelCache(lambda device: 0)):
        return step_s(fit, num_steps)


def usual_step(section: Section, workload: Workload, data: DataConfig) -> Callable[[], None]:
    """A step of the loop that everybody writes, of the same network, with the same optimiser."""
    device, on_card = section.device, section.device.type == "cuda"
    network = build_network(backbone_config(section, workload), len(CLASSES), 0, keep_source_head=False)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)
    workers = num_loader_workers(workload, section.count(LOADER_WORKERS))
    section.value(f"loader_workers_{workload.label}", workers, "")
    images_of = usual_batches(data, workload, workers, pinned=on_card)

    def step() -> None:
        images, labels = (each.to(device, non_blocking=True) for each in next(images_of))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = network(images.to(memory_format=torch.channels_last)).target_logits
            loss = F.cross_entropy(logits, labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def usual_batches(data: DataConfig, workload: Workload, workers: int, pinned: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised batches without end, by the view that this project cuts."""
    transform = v2.Compose(
        [
            v2.Resize((data.stored_px, data.stored_px), v2.InterpolationMode.BICUBIC),
            v2.RandomCrop(data.size_px),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ]
    )
    assert data.root is not None
    images = ImageFolder(data.root / "train", transform)
    loader = DataLoader(
        images,
        batch_size=workload.batch_size,
        sampler=RandomSampler(images, replacement=True, num_samples=100_000 * workload.batch_size),
        num_workers=workers,
        pin_memory=pinned,
    )
    yield from loader


def num_loader_workers(workload: Workload, most: int, shared_memory: str = "/dev/shm") -> int:
    """Number of workers of a usual loop: a core is left for the loop, and their batches fit into shared memory.

    A container has 64 MB of it by default, and a worker that finds no room there dies.
    """
    batch_bytes = workload.batch_size * 3 * workload.size_px**2 * torch.float32.itemsize
    most = min(most, max(1, (os.cpu_count() or 1) - 1))
    with suppress(FileNotFoundError):  # a system without it has no such limit
        most = min(most, shutil.disk_usage(shared_memory).free // (BATCHES_A_WORKER * batch_bytes))
    return most
