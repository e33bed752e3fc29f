"""A section of `benchmarks.gpu`: its time, the figures that it has written, and the trainings that it measures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch

from benchmarks.figures import Figure
from benchmarks.methods import seconds
from trainables.backbones.config import BackboneConfig
from trainables.backbones.kept_networks import KeptNetworks
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.images import LabelledImages
from trainables.errors import first_line
from trainables.methods import METHODS
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit
from trainables.trial import start_fit

FIGURES = "figures.jsonl"
NUM_CLASSES = 10
NVIDIA_SMI = ("nvidia-smi",)
REHEARSED = 0.1
"""Share of a card's time that the same takes in a rehearsal on the CPU, whose networks and counts are small."""


class Workload(NamedTuple):
    """A backbone at an image size and a batch size."""

    label: str
    backbone: str
    size_px: int
    batch_size: int


ON_A_CARD = {
    "small": Workload("effnet64", "package/efficientnet_lite0", 64, 24),
    "medium": Workload("effnet128", "package/efficientnet_lite0", 128, 24),
    "large": Workload("resnet50", "timm/resnet50", 224, 48),
    "tokens": Workload("vit_small", "timm/vit_small_patch16_224", 224, 48),
}
IN_REHEARSAL = {
    "small": Workload("effnet64", "timm/test_efficientnet", 32, 4),
    "medium": Workload("effnet128", "timm/test_efficientnet", 48, 4),
    "large": Workload("resnet50", "timm/test_resnet", 32, 4),
    "tokens": Workload("vit_small", "timm/test_vit", 160, 2),
}
"""timm's smallest networks, under the labels of the real ones, so that the same figures have the same names."""


@dataclass(frozen=True)
class Section:
    """A section at work: `out` receives what is kept, `scratch` what is not; `ends_s` is its deadline on the clock
    `time.monotonic`, which is one for all processes of a machine."""

    name: str
    device: torch.device
    out: Path
    scratch: Path
    ends_s: float

    @property
    def is_rehearsal(self) -> bool:
        """Whether it only shows that the code runs: on a CPU, with tiny networks and counts."""
        return self.device.type == "cpu"

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self.ends_s - time.monotonic()

    def workload(self, key: str) -> Workload:
        """The workload of that key, on this device."""
        return (IN_REHEARSAL if self.is_rehearsal else ON_A_CARD)[key]

    def count(self, on_a_card: int, in_rehearsal: int = 1) -> int:
        """A number of repetitions."""
        return in_rehearsal if self.is_rehearsal else on_a_card

    def has_time_for(self, what: str, needed_s: float) -> bool:
        """Whether so many seconds on a card are left; says so where they are not."""
        needed_s *= REHEARSED if self.is_rehearsal else 1.0
        if self.left_s < needed_s:
            print(f"left out: {what}, for which {max(0.0, self.left_s):.0f} s are left", flush=True)
        return self.left_s >= needed_s

    def figure(self, name: str, value: float, limit: float, at_least: bool = False) -> None:
        """Prints and writes a figure that has a limit."""
        figure = Figure(f"gpu_{name}", value, limit, at_least)
        print(figure, flush=True)
        self._write(name=figure.name, value=value, limit=limit, at_least=at_least, result=figure.result)

    def value(self, name: str, value: Any, unit: str) -> None:
        """Prints and writes a value that is held to nothing."""
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"  {name}: {shown} {unit}".rstrip(), flush=True)
        self._write(name=name, value=value, unit=unit)

    def attempt(self, name: str, measure: Callable[[], None]) -> None:
        """Calls `measure`. Its error becomes a failed figure, and what follows is measured all the same."""
        try:
            measure()
        except Exception as error:
            reason = first_line(error)
            print(f"{name} failed: {reason}\n{Figure.failed(f'gpu_{name}')}", flush=True)
            self._write(name=f"gpu_{name}", value=None, result="failed", reason=reason)

    def _write(self, **fields: Any) -> None:
        line = json.dumps({"section": self.name, **fields, "left_s": round(self.left_s, 1)}) + "\n"
        with (self.out / FIGURES).open("a", encoding="utf-8") as file:
            file.write(line)


def results_in(out: Path) -> list[dict[str, Any]]:
    """What the sections have written to `out` so far."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in (out / FIGURES).read_text(encoding="utf-8").splitlines()]
    return []


def training(
    section: Section,
    workload: Workload,
    method: str,
    precision: str = "bf16",
    device: torch.device | None = None,
    state: dict[str, Any] | None = None,
    examples: Examples | None = None,
    kept: KeptNetworks | None = None,
    **options: Any,
) -> Fit:
    """A training of drawn images, or of `examples`, at step 0 or at `state`, with a budget that is not used up.

    `kept` is as of `start_fit`, and `options` are settings of the training. What a step costs depends neither on the
    weights nor on what is seen.
    """
    data = data_config(workload)
    if examples is None:
        examples = drawn_images(data.stored_px, max(40, 5 * workload.batch_size))  # batches differ
    settings: dict[str, Any] = {
        "num_steps": 1_000_000,
        "learning_rate": 1e-4,  # at which no method diverges, however long this runs
        "batch_size": workload.batch_size,
        "precision": precision,
    }
    config = TrialConfig(
        data=data,
        backbone=backbone_config(section, workload),
        method=METHODS[method].Config(name=method),
        training=TrainingConfig(**settings | options),
    )
    return start_fit(config, examples, seed=0, device=device or section.device, state=state, kept=kept)


def data_config(workload: Workload) -> DataConfig:
    """The view of the images. No dataset of that name is read where images are drawn."""
    return DataConfig(dataset="imagefolder", size_px=workload.size_px)


@lru_cache
def drawn_images(side_px: int, count: int) -> LabelledImages:
    """Images of noise in ten classes, the same arrays for all trainings of a process; no dataset has to be there."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    return LabelledImages.of(pixels, np.arange(count) % NUM_CLASSES, [str(number) for number in range(NUM_CLASSES)])


def backbone_config(section: Section, workload: Workload) -> BackboneConfig:
    """The backbone with a source head, which SMILE needs: timm's models have drawn weights, as none are downloaded."""
    library, _, model = workload.backbone.partition("/")
    if library == "package":
        return BackboneConfig(name=workload.backbone)
    file = section.scratch / f"{model}.pth"
    if not file.exists():
        unfinished = file.with_suffix(f".{os.getpid()}")
        torch.save(timm.create_model(model).state_dict(), unfinished)
        unfinished.replace(file)
    return BackboneConfig(name=workload.backbone, checkpoint=file)


def step_s(fit: Fit, num_steps: int) -> float:
    """Seconds of a step, over so many more."""
    return seconds(fit, num_steps) / num_steps


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of each way's measurements, which are taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    return {name: statistics.median(values) for name, values in taken.items()}


def card_bytes_in_use(command: Sequence[str] = NVIDIA_SMI) -> int | None:
    """Bytes in use on the card by all processes, as its driver counts them; None where there is no such program."""
    try:
        return int(asked_of_driver("memory.used", command)) << 20
    except ValueError:
        return None


def driver_version(command: Sequence[str] = NVIDIA_SMI, file: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The driver's version, of its program or of the kernel's file; empty where there is neither."""
    if version := asked_of_driver("driver_version", command):
        return version
    with suppress(OSError, IndexError):
        return file.read_text(encoding="utf-8").splitlines()[0]
    return ""


def asked_of_driver(field: str, command: Sequence[str] = NVIDIA_SMI) -> str:
    """What the driver's program says of the first card in use; empty where there is no such program."""
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    query = [*command, f"--query-gpu={field}", "--format=csv,noheader,nounits", f"--id={card}"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    return ""


def taken_bytes(device: torch.device) -> int:
    """Bytes in use on the card, by all its processes; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free
