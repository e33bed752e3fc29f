"""Trainings of tiny networks on thirty images, with checkpoints at given steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainables.tiny import CPU, NUM_CLASSES
from trainables.config import TrialConfig
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.results import FoldResult
from trainables.seeding import rng_for
from trainables.training.checkpoint import Checkpoints
from trainables.trial import FoldTraining


def coloured_images() -> LabelledImages:
    """Thirty noisy images, stored at 10×10, with a colour for each class."""
    labels = np.arange(30) % NUM_CLASSES
    pixels = rng_for(0, "pixels").integers(0, 100, (30, 10, 10, 3), dtype=np.uint8)
    pixels[np.arange(30), :, :, labels] += 120
    return LabelledImages.of(pixels, labels, ("red", "green", "blue"))


QUICK = {"delta": {"attention_head_steps": 20}}


def trial_of(method: str = "smile", seed: int = 0, **training: Any) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 8, "resize_px": 10},
            "backbone": {"name": "tiny"},
            "method": {"name": method} | QUICK.get(method, {}),
            "training": {"num_steps": 12, "batch_size": 8, "learning_rate": 0.1, "eval_batch_size": 7} | training,
            "seed": seed,
        }
    )


def without_time(results: list[FoldResult]) -> list[FoldResult]:
    return [replace(result, duration_s=0) for result in results]


def trained_folds(config: TrialConfig, images: LabelledImages, *numbers: int) -> list[FoldResult]:
    """The results of these of three folds (from 1), trained in this order."""
    folds = stratified_folds(images.labels, 3, config.seed)
    return [FoldTraining(config, images, number, folds[number - 1], CPU).result() for number in numbers]


class AtStep(Checkpoints):
    """Writes at one step alone, and cuts the training off at another."""

    def __init__(self, path: Path, written_at: int, cut_off_at: int | None = None) -> None:
        super().__init__(path, period_s=0)
        self.written_at, self.cut_off_at, self.asked = written_at, cut_off_at, 0

    def due(self) -> bool:
        self.asked += 1
        if self.asked == self.cut_off_at:
            raise KeyboardInterrupt
        return self.asked == self.written_at

    def save(self, identity: str, state: dict[str, Any]) -> None:
        super().save(identity, state)
        self.wait()  # a process that is cut off would not have written it


def training_of(config: TrialConfig, images: LabelledImages, checkpoints: Checkpoints | None = None) -> FoldTraining:
    return FoldTraining(config, images, 2, stratified_folds(images.labels, 3, 0)[1], CPU, checkpoints)


def never(*_: Any) -> None:
    raise AssertionError("it is in the checkpoint")
