from __future__ import annotations

from typing import Literal

import pytest
import torch

from tests.trainables.tiny import Unfolded, tiny_batch, tiny_context, tiny_network
from trainables.backbones.frozen_batchnorm import FrozenBatchNorm
from trainables.methods import smile
from trainables.methods.mixing import Mix
from trainables.methods.smile import Smile, SmileConfig
from trainables.types import LossTerms

PARTNER = torch.tensor([2, 0, 3, 1, 4, 5])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("feature_loss", ["authors", "paper"])
@pytest.mark.parametrize("fold", [True, False])
def test_student_and_teacher_agree_on_unmixed_input_at_step_0(
    feature_loss: Literal["authors", "paper"], fold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, where neither is folded, and to rounding, where both are; mixed, nonlinearity parts them, and
    unmixed the statistics of the batch do."""
    if not fold:
        as_it_is = lambda teacher, _: Unfolded(teacher)  # noqa: E731
        monkeypatch.setattr(smile, "FoldedNetwork", as_it_is)
    method = Smile(
        SmileConfig(feature_loss=feature_loss, gamma_fe=1, gamma_fc=1), tiny_network().train(), tiny_context()
    )

    def loss_at(weight: float) -> LossTerms:
        monkeypatch.setattr(smile, "draw_mix", lambda *_: Mix(weight, PARTNER))
        return method.loss(tiny_batch())

    with FrozenBatchNorm(method.student.backbone, method.extra_modules(), fold=fold).in_force():
        unmixed, mixed = loss_at(1.0), loss_at(0.5)
    method.student.train()
    by_batch = loss_at(1.0)
    assert unmixed["feature"] <= (1e-13 if fold else 0)
    assert mixed["feature"] > 1e-6
    assert by_batch["feature"] > 0.01
    assert by_batch["source_label"] > unmixed["source_label"]
