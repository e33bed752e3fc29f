from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.parity import assert_parity, gradients
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods import mixup
from trainables.methods.l2 import L2, L2Config
from trainables.methods.mixing import Mix, draw_mix
from trainables.methods.mixup import Mixup, MixupConfig
from trainables.types import LossTerms

PARTNER = torch.tensor([2, 0, 3, 1, 4, 5])

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def loss_at(monkeypatch: pytest.MonkeyPatch):
    """loss_at(student, mix): mixup's terms of the tiny batch for that draw."""

    def loss(student: torch.nn.Module, mix: Mix) -> LossTerms:
        monkeypatch.setattr(mixup, "draw_mix", lambda *_: mix)
        return Mixup(MixupConfig(), student, tiny_context()).loss(tiny_batch())

    return loss


@pytest.mark.parametrize("weight", [0.5, 0.7, 1.0])
def test_loss_and_gradient_match_the_hard_label_form(loss_at, weight: float) -> None:
    student = tiny_network()
    ours = loss_at(student, Mix(weight, PARTNER))
    assert_parity(ours, references.mixup(student, tiny_batch(), weight, PARTNER), student)


def test_the_draw_is_that_of_its_seed_step_and_alpha() -> None:
    student = tiny_network()
    ours = Mixup(MixupConfig(alpha=0.9), student, tiny_context(seed=3)).loss(tiny_batch(step=4))
    mix = draw_mix(6, 0.9, torch.device("cpu"), seed=3, step=4)
    assert_parity(ours, references.mixup(student, tiny_batch(step=4), mix.weight, mix.partner), student)


def test_a_whole_weight_is_plain_fine_tuning(loss_at) -> None:
    student = tiny_network()
    plain = L2(L2Config(), student, tiny_context()).loss(tiny_batch())["target_label"]
    mixed = loss_at(student, Mix(1.0, PARTNER))["target_label"]
    assert_close(mixed, plain, rtol=1e-12, atol=0)
    assert_close(gradients(mixed, student), gradients(plain, student), rtol=1e-10, atol=1e-14)


def test_the_least_alpha_is_all_but_plain_fine_tuning() -> None:
    student = tiny_network()
    plain, mixed = L2(L2Config(), student, tiny_context()), Mixup(MixupConfig(alpha=1e-3), student, tiny_context())
    for step in range(1, 11):
        batch = tiny_batch(step)
        assert_close(mixed.loss(batch), plain.loss(batch), rtol=1e-6, atol=0)


def test_folding_the_weight_changes_no_loss(loss_at) -> None:
    """loss(λ, π) = loss(1 − λ, π⁻¹), batch statistics included."""
    student = tiny_network().train()
    one, other = loss_at(student, Mix(0.7, PARTNER)), loss_at(student, Mix(0.3, PARTNER.argsort()))
    assert_parity(one, other, student)
