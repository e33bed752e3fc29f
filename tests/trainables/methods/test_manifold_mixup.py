from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods import manifold_mixup
from trainables.methods.l2 import L2, L2Config
from trainables.methods.manifold_mixup import (
    ManifoldMixup,
    ManifoldMixupConfig,
    bce_of_softmax,
    draw_layer,
    output_blended,
)
from trainables.methods.mixing import Mix, draw_mix
from trainables.types import LossTerms

PARTNER = torch.tensor([2, 0, 3, 1, 4, 5])

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def loss_at(monkeypatch: pytest.MonkeyPatch):
    """loss_at(student, layer, mix): the terms of the tiny batch for that draw."""

    def loss(student: torch.nn.Module, layer: int, mix: Mix, **settings) -> LossTerms:
        monkeypatch.setattr(manifold_mixup, "draw_mix", lambda *_: mix)
        monkeypatch.setattr(manifold_mixup, "draw_layer", lambda *_: layer)
        return ManifoldMixup(ManifoldMixupConfig(**settings), student, tiny_context()).loss(tiny_batch())

    return loss


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("weight", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "bce_softmax"])
def test_loss_and_gradient_match_the_paper(loss_at, layer: int, weight: float, loss: str) -> None:
    student = tiny_network(source_head=False).train()
    ours = loss_at(student, layer, Mix(weight, PARTNER), loss=loss)
    assert_parity(ours, references.manifold_mixup(student, tiny_batch(), layer, weight, PARTNER, loss), student)


def test_the_draw_is_that_of_its_seed_step_and_settings() -> None:
    student = tiny_network(source_head=False)
    for step in range(1, 9):
        ours = ManifoldMixup(ManifoldMixupConfig(alpha=0.9), student, tiny_context(seed=3)).loss(tiny_batch(step))
        mix, layer = draw_mix(6, 0.9, torch.device("cpu"), 3, step), draw_layer(2, 3, step)
        theirs = references.manifold_mixup(student, tiny_batch(step), layer, mix.weight, mix.partner, "cross_entropy")
        assert_parity(ours, theirs, student)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_whole_weight_is_plain_fine_tuning(loss_at, layer: int) -> None:
    student = tiny_network(source_head=False)
    plain = L2(L2Config(), student, tiny_context()).loss(tiny_batch())
    assert_parity(loss_at(student, layer, Mix(1.0, PARTNER)), plain, student)


def test_features_mixed_before_pooling_mix_the_logits() -> None:
    """What follows the last stage is affine: pooling and head."""
    student, mix = tiny_network().eval(), Mix(0.7, PARTNER)
    embedded = student.embed(tiny_batch().inputs)
    clean = student(embedded).target_logits
    with output_blended(student.backbone.stage, mix):
        assert_close(student(embedded).target_logits, mix.blend(clean))


def test_nothing_stays_hooked() -> None:
    student, mix = tiny_network().eval(), Mix(0.5, PARTNER)
    with pytest.raises(KeyboardInterrupt), output_blended(student.backbone.stem, mix):
        raise KeyboardInterrupt
    ManifoldMixup(ManifoldMixupConfig(), student, tiny_context()).loss(tiny_batch())
    assert not any(module._forward_hooks for module in student.modules())


@pytest.mark.parametrize("deepest", [0, 2, 3])
def test_every_layer_is_as_likely(deepest: int) -> None:
    drawn = Counter(draw_layer(deepest, 0, step) for step in range(2000))
    assert sorted(drawn) == list(range(deepest + 1))
    assert min(drawn.values()) > 0.85 * 2000 / (deepest + 1)


def test_binary_cross_entropy_stays_finite_where_softmax_saturates() -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0]], dtype=torch.float32, requires_grad=True)
    loss = bce_of_softmax(logits, F.one_hot(torch.tensor([2]), 3).float())
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
