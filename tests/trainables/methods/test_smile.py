from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import TRAINING, start
from tests.trainables.methods.parity import assert_parity, gradients
from tests.trainables.tiny import NUM_SOURCE_CLASSES, TinyAffine, Unfolded, tiny_batch, tiny_context, tiny_network
from trainables.backbones.network import TransferNetwork
from trainables.methods import smile
from trainables.methods.mixing import Mix
from trainables.methods.mixup import Mixup, MixupConfig
from trainables.methods.smile import Form, Smile, SmileConfig
from trainables.methods.teacher import ema_update
from trainables.types import Batch, LossTerms

PARTNER = torch.tensor([2, 0, 3, 1, 4, 5])
UNWEIGHTED = SmileConfig(gamma_fe=1, gamma_fc=1)
FORMS: list[dict[str, Form]] = [
    {"feature_loss": of_features, "source_loss": of_source}
    for of_features, of_source in product(get_args(Form), repeat=2)
]
"""Every combination of the forms of the two terms."""

LossAt = Callable[..., LossTerms]


@pytest.fixture
def loss_at(monkeypatch: pytest.MonkeyPatch) -> LossAt:
    """loss_at(method, mix): the terms of the tiny batch for that draw."""

    def loss(method: Smile, mix: Mix, batch: Batch | None = None) -> LossTerms:
        monkeypatch.setattr(smile, "draw_mix", lambda *_: mix)
        return method.loss(batch or tiny_batch())

    return loss


def smile_on(student: TransferNetwork, config: SmileConfig = UNWEIGHTED) -> Smile:
    """SMILE with the student as its own teacher, as at step 0."""
    return Smile(config, student.train(), tiny_context())


def smile_between(student: TransferNetwork, teacher: TransferNetwork, config: SmileConfig) -> Smile:
    """SMILE with a teacher that is another network than the student, as later."""
    method = smile_on(student, config)
    assert method.teacher is not None
    method.teacher.load_state_dict(teacher.state_dict())
    return method


@pytest.mark.usefixtures("float64")
class TestTheFormulas:
    @pytest.mark.parametrize("weight", [0.5, 0.7, 1.0])
    @pytest.mark.parametrize("forms", FORMS)
    def test_loss_and_gradient_match(self, loss_at: LossAt, forms: dict[str, Form], weight: float) -> None:
        """γ_FE of the authors' form is as strong for 6 maps of 4×4 positions as it is for 48 of 7×7."""
        student, teacher = tiny_network(seed=1), tiny_network(seed=2).eval()
        method = smile_between(student, teacher, SmileConfig(**forms, gamma_fe=0.03, gamma_fc=0.2))
        ours = loss_at(method, Mix(weight, PARTNER))
        theirs = references.smile(student, teacher, tiny_batch(), weight, PARTNER, **forms)
        scale = (48 * 4 * 4 / (6 * 7 * 7)) ** 0.5 if forms["feature_loss"] == "authors" else 1
        assert_parity(ours, theirs, student, feature=0.03 * scale, source_label=0.2)

    @pytest.mark.parametrize("forms", FORMS)
    def test_at_the_papers_batch_and_map_the_terms_are_literal(self, loss_at: LossAt, forms: dict[str, Form]) -> None:
        student, teacher = tiny_network(seed=1), tiny_network(seed=2).eval()
        method = smile_between(student, teacher, SmileConfig(**forms, gamma_fe=0.03, gamma_fc=0.2))
        small = tiny_batch(count=24)
        pixels = torch.cat([small.inputs, small.inputs.flip(0)]).repeat(1, 1, 2, 2)[..., :14, :14]
        batch = replace(small, inputs=pixels, labels=small.labels.repeat(2))
        partner = torch.arange(48).roll(5)
        ours = loss_at(method, Mix(0.7, partner), batch)
        theirs = references.smile(student, teacher, batch, 0.7, partner, **forms)
        assert student(student.embed(pixels)).features.shape == (48, 6, 7, 7)
        assert_parity(ours, theirs, student, feature=0.03, source_label=0.2)

    @pytest.mark.parametrize("forms", FORMS)
    def test_folding_the_weight_changes_no_loss(self, loss_at: LossAt, forms: dict[str, Form]) -> None:
        """loss(λ, π) = loss(1 − λ, π⁻¹), for all three terms and batch statistics included."""
        method = smile_between(tiny_network(seed=1), tiny_network(seed=2), UNWEIGHTED.model_copy(update=forms))
        one, other = loss_at(method, Mix(0.7, PARTNER)), loss_at(method, Mix(0.3, PARTNER.argsort()))
        assert_parity(one, other, method.student)

    def test_a_student_like_its_teacher_has_the_least_loss(
        self, loss_at: LossAt, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Unmixed and in evaluation mode, L_FE is 0 and L_FC the entropy of the target, where its gradient vanishes. To
        the bit, where the teacher's normalisations are not folded; where they are, to rounding, of which the norm has
        no gradient to speak of."""
        folded = loss_at(self.evaluated(), Mix(1.0, PARTNER))
        assert folded["feature"] < 1e-14
        monkeypatch.setattr(smile, "FoldedNetwork", lambda teacher, _: Unfolded(teacher))
        method = self.evaluated()
        student = method.student
        terms = loss_at(method, Mix(1.0, PARTNER))
        probabilities = student(student.embed(tiny_batch().inputs)).source_logits.softmax(dim=1)
        assert terms["feature"] == 0
        assert_close(terms["source_label"], references.entropy(probabilities))
        assert_close(folded["source_label"], terms["source_label"])
        assert method.diagnostics["source_label_excess"].abs() < 1e-14
        for gradient in gradients(terms["feature"] + terms["source_label"], student).values():
            assert gradient.abs().max() < 1e-14

    def test_as_printed_that_loss_is_zero(self, loss_at: LossAt) -> None:
        method = self.evaluated(UNWEIGHTED.model_copy(update={"feature_loss": "paper", "source_loss": "paper"}))
        terms = loss_at(method, Mix(1.0, PARTNER))
        assert terms["feature"] < 1e-28
        assert terms["source_label"] < 1e-28
        for gradient in gradients(terms["feature"] + terms["source_label"], method.student).values():
            assert gradient.abs().max() < 1e-12

    def evaluated(self, config: SmileConfig = UNWEIGHTED) -> Smile:
        method = smile_on(tiny_network(), config)
        method.student.eval()
        return method

    def test_batch_statistics_alone_part_student_and_teacher(self, loss_at: LossAt) -> None:
        assert loss_at(smile_on(tiny_network()), Mix(1.0, PARTNER))["feature"] > 0.01

    @pytest.mark.parametrize("feature_loss", ["authors", "paper"])
    @pytest.mark.parametrize("weight", [0.5, 0.6, 0.9, 1.0])
    def test_an_affine_network_mixes_features_by_nature(
        self, loss_at: LossAt, feature_loss: Form, weight: float
    ) -> None:
        config = UNWEIGHTED.model_copy(update={"feature_loss": feature_loss})
        terms = loss_at(smile_on(tiny_network(kind=TinyAffine), config), Mix(weight, PARTNER))
        assert terms["feature"] < 1e-14

    @pytest.mark.parametrize("forms", FORMS)
    @pytest.mark.parametrize("times", [2, 5])
    def test_no_term_grows_with_the_batch(self, loss_at: LossAt, forms: dict[str, Form], times: int) -> None:
        """A batch that is repeated has the loss and gradient of one copy, for every form."""
        method, batch = smile_on(tiny_network(), UNWEIGHTED.model_copy(update=forms)), tiny_batch()
        repeated = replace(batch, inputs=batch.inputs.repeat(times, 1, 1, 1), labels=batch.labels.repeat(times))
        partners = torch.cat([PARTNER + len(PARTNER) * k for k in range(times)])
        once, often = loss_at(method, Mix(0.7, PARTNER)), loss_at(method, Mix(0.7, partners), repeated)
        assert_parity(often, once, method.student)

    def test_excess_is_watched_not_minimised(self, loss_at: LossAt) -> None:
        method = smile_between(tiny_network(seed=1), tiny_network(seed=2), UNWEIGHTED)
        terms = loss_at(method, Mix(0.7, PARTNER))
        excess = method.diagnostics["source_label_excess"]
        assert set(terms) == {"target_label", "feature", "source_label"}
        assert 0 < excess < terms["source_label"]
        assert not excess.requires_grad

    def test_as_printed_there_is_no_excess(self, loss_at: LossAt) -> None:
        method = smile_on(tiny_network(), UNWEIGHTED.model_copy(update={"source_loss": "paper"}))
        loss_at(method, Mix(0.7, PARTNER))
        assert not method.diagnostics


class TestWithoutATerm:
    @pytest.mark.parametrize("forms", FORMS)
    def test_without_weights_value_and_gradient_match_mixup(self, forms: dict[str, Form]) -> None:
        config = SmileConfig(**forms, gamma_fe=0, gamma_fc=0, alpha=0.4)
        student = tiny_network(source_head=Smile.uses_source_head(config))
        ours = Smile(config, student, tiny_context()).loss(tiny_batch())
        theirs = Mixup(MixupConfig(alpha=0.4), student, tiny_context()).loss(tiny_batch())
        assert ours == theirs
        ours_at, theirs_at = (gradients(terms["target_label"], student) for terms in (ours, theirs))
        assert all(torch.equal(ours_at[name], theirs_at[name]) for name in theirs_at)

    def test_without_weights_there_is_no_teacher(self) -> None:
        method = Smile(SmileConfig(gamma_fe=0, gamma_fc=0), tiny_network(), tiny_context())
        assert method.teacher is None
        method.after_step(10)

    @pytest.mark.parametrize(
        ("config", "terms"),
        [
            (SmileConfig(gamma_fe=0), {"target_label", "source_label"}),
            (SmileConfig(gamma_fc=0), {"target_label", "feature"}),
        ],
    )
    def test_a_weight_of_zero_leaves_its_term_out(self, config: SmileConfig, terms: set[str]) -> None:
        method = start(config).method
        assert set(method.loss(tiny_batch())) == terms

    def test_without_source_term_nobody_has_a_source_head(self) -> None:
        config = SmileConfig(gamma_fc=0)
        assert not Smile.uses_source_head(config)
        assert Smile.uses_source_head(SmileConfig(gamma_fe=0))
        method = start(config).method
        assert method.student.source_head is None
        assert method.teacher.source_head is None

    def test_the_source_head_shifts_no_draw_of_the_target_head(self) -> None:
        with_head, without = start(SmileConfig()).method.student, start(SmileConfig(gamma_fc=0)).method.student
        assert with_head.source_head.out_features == NUM_SOURCE_CLASSES
        assert torch.equal(with_head.target_head.weight, without.target_head.weight)
        assert torch.equal(with_head.target_head.bias, without.target_head.bias)


class TestTheTeacher:
    def test_takes_no_gradient_and_stays_in_evaluation_mode(self) -> None:
        method = smile_on(tiny_network())
        method.student.train()
        sum(method.loss(tiny_batch()).values()).backward()
        assert all(not p.requires_grad and p.grad is None for p in method.teacher.parameters())
        assert not any(module.training for module in method.teacher.modules())

    def test_shares_no_memory_with_the_student(self) -> None:
        method = smile_on(tiny_network())
        before = copy.deepcopy(method.teacher.state_dict())
        for parameter in method.student.parameters():
            parameter.data.add_(1)
        method.student(method.student.embed(tiny_batch().inputs))  # moves the BatchNorm statistics
        assert_same_state(method.teacher.state_dict(), before)

    @pytest.mark.usefixtures("float64")
    def test_is_a_moving_average_of_the_student(self) -> None:
        """Its weights only: the source head and the BatchNorm statistics stay those of the pre-training."""
        fit = start(SmileConfig(ema_decay=0.9, ema_reference_steps=None, ema_period_steps=3))
        fit.run(until=2)
        teacher, student = fit.method.teacher, fit.method.student
        before = copy.deepcopy(teacher.state_dict())
        fit.run(until=3)
        student_state = student.state_dict()
        moved = {f"backbone.{name}" for name, _ in student.backbone.named_parameters()}
        for name, value in teacher.state_dict().items():
            follows = name in moved
            expected = 0.9 * before[name] + 0.1 * student_state[name] if follows else before[name]
            assert_close(value, expected, rtol=0, atol=1e-14 if follows else 0)
            assert not follows or not torch.equal(value, before[name])

    @pytest.mark.parametrize(("period", "moments"), [(1, [1, 2, 3, 4, 5, 6, 7, 8]), (3, [3, 6]), (8, [8]), (9, [])])
    def test_moves_at_whole_periods_only(self, period: int, moments: list[int]) -> None:
        fit = start(SmileConfig(ema_decay=0.9, ema_reference_steps=None, ema_period_steps=period))
        moved = []
        for step in range(1, TRAINING.num_steps + 1):
            before = copy.deepcopy(fit.method.teacher.state_dict())
            fit.run(until=step)
            if any(not torch.equal(a, before[k]) for k, a in fit.method.teacher.state_dict().items()):
                moved.append(step)
        assert moved == moments
        assert len(moved) == TRAINING.num_steps // period

    @pytest.mark.parametrize("decay", [0.0, 1.0])
    def test_follows_at_once_or_never_at_the_ends(self, decay: float) -> None:
        teacher, student = tiny_network(seed=1), tiny_network(seed=2)
        source = copy.deepcopy(student if decay == 0 else teacher)
        ema_update(teacher, student, decay)
        for mine, theirs in zip(teacher.parameters(), source.parameters(), strict=True):
            assert torch.equal(mine, theirs)


class TestTheDecay:
    def test_is_as_given_at_the_reference_budget(self) -> None:
        assert SmileConfig(ema_decay=0.997).decay_per_update(9000) == 0.997

    @pytest.mark.parametrize("num_steps", [80, 300, 15000])
    def test_leaves_the_same_share_of_the_source_at_any_budget(self, num_steps: int) -> None:
        config = SmileConfig(ema_decay=0.999, ema_period_steps=10)
        left = config.decay_per_update(num_steps) ** (num_steps / 10)
        assert left == pytest.approx(0.999**900, rel=1e-12)
        assert left == pytest.approx(0.41, abs=0.01)

    def test_is_literal_without_a_reference(self) -> None:
        config = SmileConfig(ema_decay=0.95, ema_reference_steps=None)
        assert {config.decay_per_update(steps) for steps in (1, 80, 9000)} == {0.95}

    def test_is_what_the_teacher_moves_by(self) -> None:
        method = Smile(SmileConfig(ema_decay=0.99, ema_reference_steps=40), tiny_network(), tiny_context(num_steps=8))
        assert method.decay == pytest.approx(0.99**5)

    @pytest.mark.parametrize("decay", [0.0, 1.0])
    def test_has_fixed_points_at_the_ends(self, decay: float) -> None:
        assert SmileConfig(ema_decay=decay).decay_per_update(80) == decay


def assert_same_state(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name in expected:
        assert torch.equal(got[name], expected[name]), name
