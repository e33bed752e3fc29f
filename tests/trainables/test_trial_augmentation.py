"""A training with every augmentation, whose draws come from torch's global generator, resumes to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainables.tiny_trials import AtStep, training_of, trial_of, without_time
from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.training.checkpoint import Checkpoints

AUGMENTED = DataConfig(
    dataset="digits",
    size_px=8,
    resize_px=10,
    crop="random_resized",
    color_jitter=0.4,
    auto_augment="rand_augment",
    erasing=0.5,
)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("method", ["smile", "bi_tuning"])
def test_a_resumed_training_is_the_undisturbed_one(images: LabelledImages, tmp_path: Path, method: str) -> None:
    plain = trial_of(method, learning_rate=0.01)
    config = plain.model_copy(update={"data": AUGMENTED})
    undisturbed = training_of(config, images).result()
    assert undisturbed.loss_terms != training_of(plain, images).result().loss_terms
    path = tmp_path / "fold-2.pt"
    with pytest.raises(KeyboardInterrupt):
        training_of(config, images, AtStep(path, written_at=5, cut_off_at=8)).result()
    torch.manual_seed(5)
    result = training_of(config, images, Checkpoints(path, 1000)).result()
    assert result.taken_up_at == 5
    assert without_time([replace(result, taken_up_at=0)]) == without_time([undisturbed])
