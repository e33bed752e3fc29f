from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import TRAINING, start
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import NUM_CLASSES, TinyTokens, tiny_batch, tiny_context, tiny_network
from trainables.backbones import BackboneFacts
from trainables.errors import BadInput
from trainables.methods import check_method
from trainables.methods.bi_tuning import BiTuning, BiTuningConfig, Queues, unit_vectors
from trainables.methods.l2 import L2, L2Config
from trainables.types import Batch


def bi_tuning_on(seed: int = 1, **settings: float) -> BiTuning:
    return BiTuning(BiTuningConfig(**settings), tiny_network(seed, source_head=False).train(), tiny_context())


def as_lists(queues: Queues) -> references.KeyQueues:
    return references.KeyQueues(queues.keys_MD.view(NUM_CLASSES, queues.length, -1))


@pytest.mark.usefixtures("float64")
class TestTheLoss:
    @pytest.mark.parametrize("queue_length", [1, 3, 40])
    @pytest.mark.parametrize("num_examples", [1, 8])
    def test_value_and_gradient_match_the_loops(self, queue_length: int, num_examples: int) -> None:
        """Step after step, so that the queues go round, and with more keys of a class than its queue is long."""
        method = bi_tuning_on(queue_length=queue_length, projection_dim=5, temperature=0.1, eta=0.3)
        features, projections = as_lists(method.feature_queues), as_lists(method.projection_queues)
        trained = nn.ModuleList([method.student, method.projector])
        for step in range(1, 5):
            with torch.no_grad():  # a key network that is not the student
                for parameter in method.key.parameters():
                    parameter.mul_(1.1)
            batch = tiny_batch(step, num_examples)
            ours = method.loss(batch)
            theirs = references.bi_tuning(
                method.student, method.projector, tuple(method.key), features, projections, batch, temperature=0.1
            )
            assert_parity(ours, theirs, trained, projection=0.3, classifier=0.3)
            assert_close(as_lists(method.feature_queues).keys, features.keys)
            assert_close(as_lists(method.projection_queues).keys, projections.keys)
            assert method.feature_queues.next_K.tolist() == method.projection_queues.next_K.tolist() == features.oldest

    def test_classifier_term_moves_no_head(self) -> None:
        method = bi_tuning_on()
        head = list(method.student.target_head.parameters())
        for name, reaches in (("target_label", True), ("projection", False), ("classifier", False)):
            grads = torch.autograd.grad(
                method.loss(tiny_batch())[name], head, allow_unused=True, materialize_grads=True
            )
            assert all(bool(grad.any()) == reaches for grad in grads), name

    @pytest.mark.parametrize("queue_length", [2, 40])
    def test_when_hot_it_is_the_share_of_the_class(self, queue_length: int) -> None:
        """T → ∞: log((1 + K·K_q) / (1 + K_q)) whatever the keys."""
        terms = bi_tuning_on(temperature=1e9, queue_length=queue_length).loss(tiny_batch())
        expected = math.log((1 + NUM_CLASSES * queue_length) / (1 + queue_length))
        for name in ("projection", "classifier"):
            assert terms[name].item() == pytest.approx(expected, abs=1e-7)

    def test_contrast_is_never_negative_and_zero_at_its_aim(self) -> None:
        method = bi_tuning_on(queue_length=2, temperature=0.01)
        for step in range(1, 9):
            terms = method.loss(tiny_batch(step))
            assert terms["projection"] > 0
            assert terms["classifier"] > 0
        labels = torch.tensor([2, 0])
        cosines = 2.0 * F.one_hot(labels, NUM_CLASSES).repeat_interleave(2, dim=1) - 1
        assert method._contrast(torch.ones(2), cosines, labels).abs() < 1e-12


class TestTheKeyNetwork:
    def test_starts_as_the_student(self) -> None:
        method = bi_tuning_on()
        assert_close(list(method.key.parameters()), list(method.query.parameters()), rtol=0, atol=0)
        assert not any(parameter.requires_grad for parameter in method.key.parameters())

    def test_follows_before_it_is_asked(self) -> None:
        method = bi_tuning_on(ema_decay=0.9, ema_reference_steps=None)
        before = copy.deepcopy(method.key)
        with torch.no_grad():
            for parameter in method.query.parameters():
                parameter.add_(1)
        method.loss(tiny_batch())
        for now, then, student in zip(
            method.key.parameters(), before.parameters(), method.query.parameters(), strict=True
        ):
            assert_close(now, 0.9 * then + 0.1 * student)
        asked = replace(tiny_batch(), inputs=tiny_batch().second_inputs)
        backbone, projector = method.key
        with torch.no_grad():
            _, keys = unit_vectors(backbone(method.student.embed(asked.inputs))[1], projector)
        of_class = method.projection_queues.keys_MD.view(NUM_CLASSES, 40, -1)[asked.labels[0]]
        assert_close(of_class[0], keys[0], rtol=1e-5, atol=1e-6)

    def test_has_statistics_of_its_own(self) -> None:
        """Both normalise by their batch, and each keeps count of what it saw."""
        method = bi_tuning_on()
        method.loss(tiny_batch())
        theirs, ours = method.key[0].stem[1], method.student.backbone.stem[1]
        assert theirs.num_batches_tracked == ours.num_batches_tracked == 1
        assert not torch.equal(theirs.running_mean, ours.running_mean)
        alone = tiny_network().train()
        alone.backbone(alone.embed(tiny_batch().second_inputs))
        assert torch.equal(theirs.running_mean, alone.backbone.stem[1].running_mean)

    def test_is_in_training_mode_to_the_end(self) -> None:
        fit = start(BiTuningConfig())
        fit.run(until=3)
        assert all(part.training for part in fit.method.key.modules())

    @pytest.mark.parametrize("num_steps", [80, 9000, 20000])
    def test_leaves_the_same_share_of_the_source_at_any_budget(self, num_steps: int) -> None:
        config = BiTuningConfig(ema_decay=0.999)
        assert config.decay_per_step(num_steps) ** num_steps == pytest.approx(0.999**9000)
        assert config.model_copy(update={"ema_reference_steps": None}).decay_per_step(num_steps) == 0.999


class TestQueues:
    def test_start_as_unit_vectors_of_their_seed(self) -> None:
        method = bi_tuning_on()
        for queues in (method.feature_queues, method.projection_queues):
            assert_close(queues.keys_MD.norm(dim=1), torch.ones(NUM_CLASSES * 40))
        again = BiTuning(BiTuningConfig(), tiny_network(2), tiny_context())
        other = BiTuning(BiTuningConfig(), tiny_network(1), tiny_context(seed=8))
        assert torch.equal(again.projection_queues.keys_MD, method.projection_queues.keys_MD)
        assert torch.equal(again.projector.weight, method.projector.weight)
        assert not torch.equal(other.projection_queues.keys_MD, method.projection_queues.keys_MD)

    def test_hold_unit_vectors_to_the_end(self) -> None:
        fit = start(BiTuningConfig(queue_length=3))
        fit.run()
        for queues in (fit.method.feature_queues, fit.method.projection_queues):
            assert_close(queues.keys_MD.norm(dim=1), torch.ones(NUM_CLASSES * 3))

    def test_are_rings_of_the_latest_keys(self) -> None:
        queues = Queues(num_classes=2, length=3, num_features=1)
        start_of_second = queues.keys_MD[3:].clone()
        queues.enqueue(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 0]))
        queues.enqueue(torch.tensor([[3.0], [7.0], [4.0]]), torch.tensor([0, 1, 0]))
        assert queues.keys_MD[:3].flatten().tolist() == [4, 2, 3]
        assert queues.next_K.tolist() == [1, 1]
        assert queues.keys_MD[3] == 7
        assert torch.equal(queues.keys_MD[4:], start_of_second[1:])

    @pytest.mark.parametrize("count", [3, 4, 7, 11])
    def test_keep_the_last_of_more_than_they_hold(self, count: int) -> None:
        queues = Queues(num_classes=2, length=3, num_features=1)
        queues.enqueue(torch.arange(float(count))[:, None], torch.zeros(count, dtype=torch.int64))
        assert sorted(queues.keys_MD[:3].flatten().tolist()) == [count - 3, count - 2, count - 1]
        assert queues.next_K.tolist() == [count % 3, 0]


class TestTwoViews:
    def test_both_are_used(self) -> None:
        first, second = (seen_by(bi_tuning_on(), batch) for batch in (tiny_batch(), with_views_exchanged()))
        assert all(first[name] != second[name] for name in first)

    def test_a_batch_without_the_second_is_an_error(self) -> None:
        with pytest.raises(AssertionError, match="num_views is 2"):
            bi_tuning_on().loss(replace(tiny_batch(), second_inputs=None))

    def test_tokens_are_refused(self) -> None:
        with pytest.raises(BadInput, match=r"bi_tuning, which needs images, to see each in two augmentations"):
            check_method(BiTuningConfig(), BackboneFacts.of(TinyTokens(), "tiny"))


class TestWithoutWeight:
    def test_it_keeps_nothing_and_is_plain_fine_tuning(self) -> None:
        method = bi_tuning_on(eta=0)
        assert not list(method.extra_modules())
        plain = L2(L2Config(), tiny_network(source_head=False).train(), tiny_context())
        assert method.loss(replace(tiny_batch(), second_inputs=None)) == plain.loss(tiny_batch())

    def test_the_target_label_term_is_the_same_with_it(self) -> None:
        assert (
            bi_tuning_on().loss(tiny_batch())["target_label"] == bi_tuning_on(eta=0).loss(tiny_batch())["target_label"]
        )


def test_the_projection_learns_at_the_rate_of_the_backbone() -> None:
    fit = start(BiTuningConfig(), TRAINING.model_copy(update={"head_lr_multiplier": 10.0}))
    body, head = fit.optimizer.param_groups
    projection = list(fit.method.projector.parameters())
    assert all(any(p is parameter for p in body["params"]) for parameter in projection)
    assert len(head["params"]) == 2


def with_views_exchanged() -> Batch:
    batch = tiny_batch()
    assert batch.second_inputs is not None
    return replace(batch, inputs=batch.second_inputs, second_inputs=batch.inputs)


def seen_by(method: BiTuning, batch: Batch) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in method.loss(batch).items()}
