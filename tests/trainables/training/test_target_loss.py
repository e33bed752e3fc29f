"""The target loss of a training is that of its settings and of its own examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.trainables.tiny import CPU
from trainables.methods.losses import balanced_class_weights
from trainables.training.config import TrainingConfig
from trainables.training.target_loss import target_loss_of

LABELS = np.array([0, 0, 0, 2])


def test_by_default_it_is_plain_cross_entropy() -> None:
    found = target_loss_of(TrainingConfig(num_steps=1), LABELS, 3, CPU)
    assert (found.class_weights, found.label_smoothing) == (None, 0.0)


def test_balanced_weights_are_of_the_examples() -> None:
    settings = TrainingConfig(num_steps=1, class_weights="balanced", label_smoothing=0.1)
    found = target_loss_of(settings, LABELS, 3, CPU)
    assert found.class_weights is not None
    assert torch.equal(found.class_weights, balanced_class_weights(torch.from_numpy(LABELS), 3))
    assert found.label_smoothing == 0.1


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_all_of_a_target_cannot_be_spread(smoothing: float) -> None:
    with pytest.raises(ValidationError, match="label_smoothing"):
        TrainingConfig(label_smoothing=smoothing)
