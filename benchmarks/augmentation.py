"""What augmentations take: `python -m benchmarks.augmentation [--size-px 128] [--batch-size 24]`.

Milliseconds of a training batch in one thread, from decoded images (noise) to the input of the network, as median over
`--batches`. The settings take turns, so that what the machine does besides falls on all of them; on the CPU it is
processor time. `--device cuda` for a GPU, to which the images are copied before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.figures import seconds_of
from trainables.data.batches import training_batch
from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.seeding import rng_for

SETTINGS: dict[str, dict[str, Any]] = {
    "crop: none, flip: false": {"crop": "none", "flip": False},
    "crop: random, flip: true": {},
    "crop: random_resized": {"crop": "random_resized"},
    "color_jitter: 0.4": {"color_jitter": 0.4},
    "auto_augment: rand_augment": {"auto_augment": "rand_augment"},
    "auto_augment: trivial_augment": {"auto_augment": "trivial_augment"},
    "erasing: 0.25": {"erasing": 0.25},
}
"""Each with the other keys at their defaults."""
NUM_IMAGES = 256


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a line a setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation")
    for name, default in (("size-px", 128), ("batch-size", 24), ("batches", 40), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    for setting, duration_s in measure(arguments).items():
        print(f"{setting:<30} {1000 * duration_s:7.2f} ms a batch", flush=True)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a batch, by setting."""
    configs = {name: DataConfig(dataset="digits", size_px=arguments.size_px, **s) for name, s in SETTINGS.items()}
    side = configs["crop: random, flip: true"].stored_px
    pixels = rng_for(0, "pixels").integers(0, 256, (NUM_IMAGES, side, side, 3), dtype=np.uint8)
    images = LabelledImages.of(pixels, np.zeros(NUM_IMAGES, dtype=np.int64), ("noise",))
    durations_s: dict[str, list[float]] = {name: [] for name in configs}
    for step in range(1, arguments.batches + 3):
        for name, config in configs.items():
            batch = (images, config, arguments.batch_size, 0, step, arguments.device)
            durations_s[name].append(duration(partial(training_batch, *batch), arguments.device))
    return {name: statistics.median(each[2:]) for name, each in durations_s.items()}


def duration(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: of the processor on the CPU, else wall time with what the device was left to do."""
    if device.type != "cpu":
        return seconds_of(call)
    started_s = time.process_time()
    call()
    return time.process_time() - started_s


if __name__ == "__main__":
    raise SystemExit(main())
