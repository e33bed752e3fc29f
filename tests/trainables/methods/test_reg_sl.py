from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import TRAINING, start
from tests.trainables.methods.parity import assert_parity, gradients
from tests.trainables.tiny import TinyAffine, tiny_batch, tiny_context, tiny_network
from trainables.backbones import BackboneFacts
from trainables.backbones.network import TransferNetwork
from trainables.errors import BadInput
from trainables.methods import check_method
from trainables.methods.mixing import draw_mix, mixed
from trainables.methods.reg_sl import RegSL, RegSLConfig, reweighted_cross_entropy
from trainables.training.loop import Fit
from trainables.types import Batch

NO_LIMIT = {"distance": 1e30, "distance_growth": 1.0, "head_distance": 1e30}


def reg_sl_on(student: TransferNetwork, num_steps: int = 8, **settings: object) -> RegSL:
    return RegSL(RegSLConfig(**settings), student.train(), tiny_context(num_steps))


def moved_away(method: RegSL, by: float = 0.3) -> RegSL:
    """The method with its student somewhere else than where it started, running statistics included."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in method.student.state_dict().items():
            if tensor.is_floating_point():
                noise = by * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                tensor.copy_(tensor * noise.exp() if name.endswith("running_var") else tensor + noise)
    return method


def state_of(method: RegSL) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.student.state_dict().items()}


HEAD, STEM, STAGE = "target_head.weight", "backbone.stem.0.weight", "backbone.stage.0.weight"
STEM_GAMMA, STAGE_GAMMA = "backbone.stem.1.weight", "backbone.stage.1.weight"
CONSTRAINED = {HEAD, STEM, STAGE, STEM_GAMMA, STAGE_GAMMA}
"""Of the tiny network, whose two stages are counted as the last two."""


@pytest.mark.usefixtures("float64")
class TestTheConstraint:
    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    @pytest.mark.parametrize("distance", [0.0, 0.1, 0.4, 100.0])
    def test_projection_matches_the_balls_written_out(self, norm: str, distance: float) -> None:
        settings = {"norm": norm, "distance": distance, "distance_growth": 1.5, "head_distance": 0.7}
        method = moved_away(reg_sl_on(tiny_network(), **settings))
        before, start_of, inf_op = copy.deepcopy(method.student), method.source.state_dict(), norm == "inf_op"
        weights = before.state_dict()
        expected = {
            HEAD: references.reg_sl_projected(weights[HEAD], torch.zeros_like(weights[HEAD]), 0.7, inf_op),
            STEM: references.reg_sl_projected(weights[STEM], start_of["stem.0.weight"], 1.5 * distance, inf_op),
            STAGE: references.reg_sl_projected(weights[STAGE], start_of["stage.0.weight"], 2.25 * distance, inf_op),
            STEM_GAMMA: references.reg_sl_scaled(before.backbone.stem[1], method.source.stem[1], 1.5 * distance),
            STAGE_GAMMA: references.reg_sl_scaled(before.backbone.stage[1], method.source.stage[1], 2.25 * distance),
        }
        method.after_step(1)
        assert_close(state_of(method), weights | expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    def test_projecting_twice_is_projecting_once(self, norm: str) -> None:
        method = moved_away(reg_sl_on(tiny_network(), norm=norm, distance=0.1, head_distance=0.5))
        method.after_step(1)
        once = state_of(method)
        method.after_step(2)
        assert_close(state_of(method), once, rtol=1e-13, atol=1e-14)

    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    def test_no_distance_and_no_move_is_no_division_by_zero(self, norm: str) -> None:
        method = reg_sl_on(tiny_network(), norm=norm, distance=0, head_distance=0)
        before = state_of(method)
        method.after_step(1)
        method.after_step(2)
        expected = before | {HEAD: torch.zeros_like(before[HEAD])}
        assert_close(state_of(method), expected, rtol=1e-15, atol=0)

    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    def test_what_is_within_its_distance_stays_to_the_bit(self, norm: str) -> None:
        method = moved_away(reg_sl_on(tiny_network(), norm=norm, **NO_LIMIT))
        before = state_of(method)
        method.after_step(1)
        assert all(torch.equal(now, before[name]) for name, now in state_of(method).items())


class TestATraining:
    def test_stays_within_every_distance_after_every_step(self) -> None:
        fit = start(RegSLConfig(distance=0.01, distance_growth=2, head_distance=0.5))
        reached = torch.zeros(3)
        for step in range(1, 9):
            fit.run(until=step)
            student, source = fit.method.student, fit.method.source
            far = torch.stack(
                [
                    (student.backbone.stem[0].weight - source.stem[0].weight).norm(),
                    (student.backbone.stage[0].weight - source.stage[0].weight).norm(),
                    student.target_head.weight.norm(),
                ]
            ).detach()
            assert (far <= torch.tensor([0.02, 0.04, 0.5]) * (1 + 1e-5)).all()
            reached = torch.maximum(reached, far)
        assert_close(reached, torch.tensor([0.02, 0.04, 0.5]), rtol=1e-5, atol=0)  # the limits were felt

    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    def test_without_any_distance_moves_what_is_free_only(self, norm: str) -> None:
        fit = start(RegSLConfig(norm=norm, distance=0, head_distance=0))
        before = {name: tensor.clone() for name, tensor in fit.method.student.state_dict().items()}
        fit.run()
        after = fit.method.student.state_dict()
        assert torch.equal(after[STEM], before[STEM])
        assert torch.equal(after[STAGE], before[STAGE])
        assert not after[HEAD].any()
        for norm_name in ("stem.1", "stage.1"):  # γ follows the running variance
            scales = [
                state[f"backbone.{norm_name}.weight"] / (state[f"backbone.{norm_name}.running_var"] + 1e-6).sqrt()
                for state in (before, after)
            ]
            assert_close(scales[1], scales[0])
            assert not torch.equal(after[f"backbone.{norm_name}.bias"], before[f"backbone.{norm_name}.bias"])
        assert all(tensor.isfinite().all() for tensor in after.values())

    def test_leaves_the_stem_and_all_vectors_free(self) -> None:
        student = tiny_network()
        student.backbone.stages = ("stage",)
        method = moved_away(reg_sl_on(student, distance=0, head_distance=0))
        before = state_of(method)
        method.after_step(1)
        changed = {name for name, now in state_of(method).items() if not torch.equal(now, before[name])}
        assert changed == {HEAD, STAGE, STAGE_GAMMA}

    def test_keeps_where_it_started_in_its_state(self) -> None:
        """A training that is resumed on a network that is no longer the pre-trained one is held near the latter."""
        method, later = reg_sl_on(tiny_network(1), distance=0), reg_sl_on(tiny_network(2), distance=0)
        later.load_state_dict(method.state_dict())
        later.after_step(1)
        assert torch.equal(later.student.backbone.stage[0].weight, method.source.stage[0].weight)
        assert torch.equal(later.source.stage[1].running_var, method.source.stage[1].running_var)


class TestStages:
    CONFIG = RegSLConfig(distance=0.5, distance_growth=3)

    @pytest.mark.parametrize(
        ("num_stages", "distances"),
        [
            (1, [4.5]),
            (2, [1.5, 4.5]),
            (3, [0.5, 1.5, 4.5]),
            (4, [0.5, 0.5, 1.5, 4.5]),
            (7, [0.5, 0.5, 0.5, 0.5, 0.5, 1.5, 4.5]),
        ],
    )
    def test_last_four_have_the_authors_distances(self, num_stages: int, distances: list[float]) -> None:
        assert [self.CONFIG.stage_distance(stage, num_stages) for stage in range(1, num_stages + 1)] == distances

    def test_a_backbone_without_any_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"reg_sl, which needs stages, to hold each within its distance"):
            check_method(RegSLConfig(), BackboneFacts.of(TinyAffine(), "tiny"))


@pytest.mark.usefixtures("float64")
class TestThePenalty:
    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    def test_value_and_gradient_match_the_distances_written_out(self, norm: str) -> None:
        settings = {"norm": norm, "distance": 0.2, "distance_growth": 3, "head_distance": 0.7}
        method = moved_away(reg_sl_on(tiny_network(), form="penalty", **settings))
        student, start_of = method.student, method.source.state_dict()
        moved = [student.target_head.weight]
        moved += [
            student.get_parameter(f"backbone.{name}") - start_of[name]
            for name in ("stem.0.weight", "stem.1.weight", "stage.0.weight", "stage.1.weight")
        ]
        theirs = references.l2(student, tiny_batch())
        theirs["distance"] = references.reg_sl_penalty(moved, [0.7, 0.6, 0.6, 1.8, 1.8], norm == "inf_op")
        assert_parity(method.loss(tiny_batch()), theirs, student)

    @pytest.mark.parametrize("norm", ["frobenius", "inf_op"])
    def test_starts_at_the_head_alone_without_a_gradient_elsewhere(self, norm: str) -> None:
        method = reg_sl_on(tiny_network(), form="penalty", norm=norm)
        at_start = gradients(method.loss(tiny_batch())["distance"], method.student)
        assert {name for name, gradient in at_start.items() if gradient.any()} == {HEAD}

    def test_puts_nothing_back(self) -> None:
        method = moved_away(reg_sl_on(tiny_network(), form="penalty", distance=0, head_distance=0))
        before = state_of(method)
        method.after_step(1)
        assert all(torch.equal(now, before[name]) for name, now in state_of(method).items())
        assert method.loss(tiny_batch())["distance"] == 0


@pytest.mark.usefixtures("float64")
class TestReweighting:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
    def test_value_and_gradient_match_the_weighted_sum(self, temperature: float) -> None:
        method = reg_sl_on(tiny_network(), reweight_from=0, reweight_temperature=temperature)
        student = method.student
        theirs = references.reg_sl_reweighted(student, tiny_batch(), temperature)
        assert_parity(method.loss(tiny_batch()), theirs, student)

    def test_before_its_time_the_loss_is_plain(self) -> None:
        method = reg_sl_on(tiny_network(), reweight_from=0.5)
        for step, is_plain in ((1, True), (4, True), (5, False), (8, False)):
            batch = tiny_batch(step)
            plain = references.l2(method.student, batch)["target_label"]
            assert torch.isclose(method.loss(batch)["target_label"], plain, rtol=1e-12) == is_plain

    def test_when_hot_it_is_the_mean(self) -> None:
        logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        labels = torch.tensor([0, 1, 2, 0, 1, 2])
        plain = nn.functional.cross_entropy(logits, labels)
        assert_close(reweighted_cross_entropy(logits, labels, 1e12), plain)
        assert reweighted_cross_entropy(logits, labels, 1.0) < plain

    def test_weights_sum_to_one(self) -> None:
        logits = torch.tensor([[1.0, 2.0, 3.0]]).repeat(5, 1)
        labels = torch.zeros(5, dtype=torch.int64)
        assert_close(reweighted_cross_entropy(logits, labels, 0.3), nn.functional.cross_entropy(logits, labels))

    def test_mixed_labels_are_weighed_as_they_are(self) -> None:
        method = reg_sl_on(tiny_network(), reweight_from=0, mixing="mixup", mixing_alpha=1.0)
        batch, student = tiny_batch(), method.student
        mix = draw_mix(6, 1.0, torch.device("cpu"), 7, 1)
        inputs, _ = mixed(method.config, student.embed(batch.inputs), batch, method.context)
        log_p = student(inputs).target_logits.log_softmax(dim=1)
        losses = torch.stack(
            [
                -mix.weight * log_p[b, batch.labels[b]] - (1 - mix.weight) * log_p[b, batch.labels[i]]
                for b, i in enumerate(mix.partner)
            ]
        )
        expected = ((-losses.detach()).exp() / (-losses.detach()).exp().sum() * losses).sum()
        assert_parity(method.loss(batch), {"target_label": expected}, student)

    def test_temperature_falls_to_one_half(self) -> None:
        config = RegSLConfig(reweight_from=0.2, reweight_temperature=1.5)
        assert config.temperature_at(0.2) == 1.5
        assert config.temperature_at(0.2 + 3 / 30) == pytest.approx(1.5 * math.exp(-0.3))
        assert config.temperature_at(0.9) == 0.75


class TestLabelCorrection:
    def test_overwrites_confident_mistakes_for_good(self) -> None:
        """In the step of the correction and in every later one, independent of later predictions."""
        method = confident_of(2, correct_labels_from=0)
        batch = tiny_batch()
        terms = method.loss(batch)
        assert method.diagnostics["corrected_labels"] == (batch.labels != 2).float().mean()
        assert terms["target_label"] < 0.01
        unsure(method)
        all_two = replace(batch, labels=torch.full_like(batch.labels, 2))
        assert torch.equal(method.loss(batch)["target_label"], method.loss(all_two)["target_label"])
        assert method.diagnostics["corrected_labels"] == 0

    def test_knows_examples_by_their_index(self) -> None:
        method = confident_of(2, correct_labels_from=0)
        method.loss(tiny_batch())
        unsure(method)
        index = torch.cat([tiny_batch().index[:2], torch.tensor(others_than(tiny_batch().index))[:2]])
        labels = torch.tensor([0, 1, 0, 1])
        later = Batch(tiny_batch(2, count=4).inputs, labels, index, 2)
        assert method.labels.of(later).tolist() == [2, 2, 0, 1]

    def test_waits_for_its_time(self) -> None:
        method = confident_of(2, num_steps=10, correct_labels_from=0.3)
        for step in (1, 2, 3):
            method.loss(tiny_batch(step))
        assert (method.labels.overwritten == -1).all()
        method.loss(tiny_batch(4))
        assert (method.labels.overwritten == 2).sum() == 6

    @pytest.mark.parametrize(("threshold", "corrects"), [(0.5, True), (1.0, False)])
    def test_needs_more_than_the_threshold(self, threshold: float, corrects: bool) -> None:
        method = confident_of(2, correct_labels_from=0, correction_threshold=threshold)
        method.loss(tiny_batch())
        assert bool(method.diagnostics["corrected_labels"]) == corrects

    def test_without_it_labels_are_never_asked(self) -> None:
        method = confident_of(2)
        method.loss(tiny_batch())
        assert (method.labels.overwritten == -1).all()
        assert not method.diagnostics

    def test_outlives_a_checkpoint(self) -> None:
        first = start(RegSLConfig(correct_labels_from=0, correction_threshold=0.4, **NO_LIMIT))
        first.run(until=4)
        assert (first.method.labels.overwritten >= 0).any()
        second = resumed(first)
        assert torch.equal(second.method.labels.overwritten, first.method.labels.overwritten)

    def test_of_mixed_images_is_refused(self) -> None:
        with pytest.raises(ValidationError, match=r"mixing: none with correct_labels_from .*got mixing: mixup"):
            RegSLConfig(correct_labels_from=0.3, mixing="mixup")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", ["constraint", "penalty"])
def test_loss_and_gradient_match_plain_cross_entropy_on_clean_labels(form: str) -> None:
    method = reg_sl_on(tiny_network(), form=form)
    ours = {"target_label": method.loss(tiny_batch())["target_label"]}
    assert_parity(ours, references.l2(method.student, tiny_batch()), method.student)


def confident_of(label: int, num_steps: int = 8, **settings: object) -> RegSL:
    method = reg_sl_on(tiny_network(), num_steps, **settings)
    with torch.no_grad():
        method.student.target_head.weight.zero_()
        method.student.target_head.bias.copy_(20.0 * torch.eye(3)[label])
    return method


def unsure(method: RegSL) -> None:
    with torch.no_grad():
        method.student.target_head.bias.zero_()


def others_than(index: Tensor) -> list[int]:
    return [i for i in range(24) if i not in index.tolist()]


def resumed(fit: Fit) -> Fit:
    again = start(fit.method.config, TRAINING)
    again.load_state_dict(copy.deepcopy(fit.state_dict()))
    return again
