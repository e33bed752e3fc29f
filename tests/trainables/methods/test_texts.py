"""The methods of the paper's Table 4 on a BERT: padding changes no loss, and their identities hold as for images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainables.tiny import tiny_context
from tests.trainables.tiny_bert import text_batch, tiny_bert
from trainables.backbones.bert import Pooling
from trainables.methods import Method, MethodConfig, build_method
from trainables.methods.bss import BSSConfig
from trainables.methods.l2 import L2Config
from trainables.methods.l2_sp import L2SPConfig
from trainables.methods.mixing import Mix
from trainables.methods.mixup import MixupConfig
from trainables.methods.smile import Smile, SmileConfig
from trainables.types import LossTerms

SMILE = SmileConfig(gamma_fe=0.01, gamma_fc=0)
TABLE_4: list[MethodConfig] = [
    L2Config(),
    MixupConfig(),
    L2SPConfig(),
    BSSConfig(eta=0.1),
    SMILE,
    SMILE.model_copy(update={"feature_loss": "paper"}),
    BSSConfig(eta=0.1, mixing="mixup"),
]
pytestmark = pytest.mark.usefixtures("float64")


def started(config: MethodConfig, folder: Path, pooling: Pooling = "first") -> Method:
    """The method on a student that has moved away from where it started."""
    method = build_method(config, tiny_bert(folder, pooling), tiny_context())
    with torch.no_grad():
        for weight in method.student.parameters():
            weight.add_(0.05 * torch.sin(torch.arange(weight.numel())).view_as(weight))
    return method


def values(terms: LossTerms) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in terms.items()}


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("config", TABLE_4, ids=str)
def test_padding_changes_no_loss_and_no_gradient(config: MethodConfig, pooling: Pooling, tmp_path: Path) -> None:
    method = started(config, tmp_path, pooling)
    losses, gradients = [], []
    for width in (8, 16):
        terms = method.loss(text_batch(width=width))
        losses.append(values(terms))
        weights = [w for w in method.student.parameters() if w.requires_grad]
        gradients.append(torch.autograd.grad(torch.stack(list(terms.values())).sum(), weights, allow_unused=True))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for narrow, wide in zip(*gradients, strict=True):
        torch.testing.assert_close(narrow, wide, atol=1e-9, rtol=1e-6)


def test_smile_without_weights_is_mixup(tmp_path: Path) -> None:
    smile = started(SmileConfig(gamma_fe=0, gamma_fc=0), tmp_path)
    assert values(smile.loss(text_batch())) == values(started(MixupConfig(), tmp_path).loss(text_batch()))


@pytest.mark.parametrize("feature_loss", ["authors", "paper"])
def test_smiles_feature_term_is_zero_on_unmixed_texts_at_the_start(
    feature_loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SmileConfig.model_validate({**SMILE.model_dump(), "feature_loss": feature_loss})
    unmixed = Mix(1.0, torch.arange(6).flip(0))
    monkeypatch.setattr("trainables.methods.smile.draw_mix", lambda *_: unmixed)
    method = build_method(config, tiny_bert(tmp_path, dropout=0.1), tiny_context())
    assert values(method.loss(text_batch()))["feature"] > 0  # of dropout alone
    method.student.eval()
    assert values(method.loss(text_batch()))["feature"] == 0


def test_smiles_teacher_follows_the_whole_encoder(tmp_path: Path) -> None:
    method = started(SMILE.model_copy(update={"ema_decay": 0.0, "ema_period_steps": 1}), tmp_path)
    assert isinstance(method, Smile)
    assert method.teacher is not None
    before = dict(method.teacher.backbone.state_dict())
    assert {name.split(".")[0] for name in before} == {"embeddings", "encoder", "pooler"}
    method.after_step(1)
    for name, weight in method.student.backbone.named_parameters():
        torch.testing.assert_close(method.teacher.backbone.get_parameter(name), weight)


def test_l2_sp_starts_at_zero_and_holds_embeddings_encoder_and_pooler(tmp_path: Path) -> None:
    method = build_method(L2SPConfig(alpha=1, beta=0), tiny_bert(tmp_path), tiny_context())
    assert values(method.loss(text_batch()))["drift"] == 0
    parts = map(method.student.backbone.get_submodule, ("embeddings", "encoder", "pooler"))
    moved = [next(part.parameters()) for part in parts]
    with torch.no_grad():
        for weight in moved:
            weight.add_(1)
    assert values(method.loss(text_batch()))["drift"] == pytest.approx(sum(w.numel() for w in moved) / 2)


def test_bss_shrinks_the_smallest_eigenvalue_of_the_pooled_outputs(tmp_path: Path) -> None:
    method = started(BSSConfig(eta=1), tmp_path)
    student, batch = method.student, text_batch()
    pooled = student(student.embed(batch.inputs)).pooled
    expected = torch.linalg.eigvalsh(pooled @ pooled.T)[0]
    assert values(method.loss(batch))["spectrum"] == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-12)
