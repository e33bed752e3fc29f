from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.trainables.tiny import CPU, NUM_CLASSES, tiny_batch, tiny_network
from trainables.seeding import torch_seeded
from trainables.training.config import TrainingConfig
from trainables.training.evaluation import evaluated, is_constant, predicted_probabilities, top1_accuracy
from trainables.types import Batch

CONFIG = TrainingConfig()
BATCHES = [tiny_batch(step=1, count=6), tiny_batch(step=2, count=6), tiny_batch(step=3, count=3)]


def test_accuracy_is_the_share_of_hits() -> None:
    network = tiny_network().eval()
    hits = [
        int(network(network.embed(image[None])).target_logits[0].argmax() == label)
        for batch in BATCHES
        for image, label in zip(batch.inputs, batch.labels, strict=True)
    ]
    assert 0 < sum(hits) < len(hits)
    assert top1_accuracy(*predicted_probabilities(network, BATCHES, CONFIG, CPU)) == sum(hits) / 15


@pytest.mark.parametrize("right", [0, 1, 6])
def test_accuracy_counts_every_example_once(right: int) -> None:
    """Not the mean of the batches' accuracies: the last one may be smaller."""
    network = tiny_network()
    answers, _ = predicted_probabilities(network, BATCHES[:1], CONFIG, CPU)
    labels = answers.argmax(dim=1)
    labels[right:] = (labels[right:] + 1) % NUM_CLASSES
    inputs = BATCHES[0].inputs
    parts = [Batch(inputs[:5], labels[:5], torch.arange(5), 0), Batch(inputs[5:], labels[5:], torch.arange(1), 0)]
    assert top1_accuracy(*predicted_probabilities(network, parts, CONFIG, CPU)) == right / 6


def test_probabilities_are_in_the_order_of_the_batches() -> None:
    network = tiny_network().eval()
    probabilities, labels = predicted_probabilities(network, iter(BATCHES), CONFIG, CPU)
    inputs = torch.cat([batch.inputs for batch in BATCHES])
    assert labels.tolist() == torch.cat([batch.labels for batch in BATCHES]).tolist()
    assert_close(probabilities, network(network.embed(inputs)).target_logits.softmax(dim=1).detach())
    assert_close(probabilities.sum(dim=1), torch.ones(15))


def test_pooled_features_are_those_of_the_rows_that_are_asked_for() -> None:
    network = tiny_network().eval()
    rows = np.array([1, 5, 6, 14])
    found = evaluated(network, BATCHES, CONFIG, CPU, rows)
    inputs = torch.cat([batch.inputs for batch in BATCHES])
    assert_close(found.pooled, network(network.embed(inputs)).pooled.detach()[rows])
    assert len(evaluated(network, BATCHES, CONFIG, CPU).pooled) == 15


def test_the_network_is_put_into_evaluation_mode_and_left_as_it_was() -> None:
    """Without dropout and batch statistics: equal outputs twice, and examples do not affect each other."""
    network = tiny_network(dropout=0.5).train()
    before = copy.deepcopy(network.state_dict())
    first, _ = predicted_probabilities(network, BATCHES, CONFIG, CPU)
    second, _ = predicted_probabilities(network, BATCHES, CONFIG, CPU)
    assert torch.equal(first, second)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_nothing_is_kept_for_a_gradient() -> None:
    network = tiny_network()
    probabilities, _ = predicted_probabilities(network, BATCHES, CONFIG, CPU)
    assert not probabilities.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_probabilities_are_in_full_precision_under_autocast() -> None:
    network = tiny_network()
    exact, _ = predicted_probabilities(network, BATCHES, CONFIG, CPU)
    rounded, _ = predicted_probabilities(network, BATCHES, TrainingConfig(precision="bf16"), CPU)
    assert rounded.dtype == torch.float32
    assert_close(rounded.sum(dim=1), torch.ones(15))
    assert not torch.equal(rounded, exact)
    assert_close(rounded, exact, rtol=0, atol=0.02)


class TestConstantPredictions:
    def test_are_the_same_for_all_examples(self) -> None:
        assert is_constant(torch.tensor([[0.2, 0.5, 0.3]]).expand(5, 3))
        assert is_constant(torch.tensor([[0.0, 1.0, 0.0]]).expand(5, 3))
        assert is_constant(torch.full((5, 3), 1 / 3) + 1e-6 * torch.randn(5, 3))

    def test_are_not_those_of_one_class_with_other_certainties(self) -> None:
        assert not is_constant(torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.1, 0.9]]))

    @pytest.mark.parametrize("num_classes", [2, 30, 1000])
    def test_are_not_those_of_a_random_head(self, num_classes: int) -> None:
        with torch_seeded(0, "head"):
            features = torch.randn(40, 1280).clamp(min=0)
            logits = torch.nn.Linear(1280, num_classes)(features).detach()
        assert not is_constant(logits.softmax(dim=1))

    def test_are_not_those_of_an_untrained_network(self) -> None:
        assert not is_constant(predicted_probabilities(tiny_network(), BATCHES, CONFIG, CPU)[0])

    def test_come_from_dead_features(self) -> None:
        network = tiny_network()
        last = network.backbone.stage[1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, -1)
        assert is_constant(predicted_probabilities(network, BATCHES, CONFIG, CPU)[0])
