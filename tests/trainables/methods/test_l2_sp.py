from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import start
from tests.trainables.methods.parity import assert_parity, gradients
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.backbones.network import TransferNetwork
from trainables.methods.l2_sp import L2SP, L2SPConfig

pytestmark = pytest.mark.usefixtures("float64")


def moved_from(source: TransferNetwork, config: L2SPConfig) -> L2SP:
    """L2-SP at a moment when every parameter has moved away from where it was in `source`."""
    method = L2SP(config, copy.deepcopy(source), tiny_context())
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    return method


@pytest.mark.parametrize("include", ["all", "weights"])
def test_loss_and_gradient_match_the_paper(include) -> None:
    source = tiny_network(source_head=False)
    method = moved_from(source, L2SPConfig(alpha=0.3, beta=0.2, include=include))
    theirs = references.l2_sp(method.student, source, tiny_batch(), include)
    assert_parity(method.loss(tiny_batch()), theirs, method.student, drift=0.3, head_decay=0.2)


def test_at_the_start_the_drift_and_its_gradient_are_zero() -> None:
    student = tiny_network(source_head=False)
    drift = L2SP(L2SPConfig(), student, tiny_context()).loss(tiny_batch())["drift"]
    assert drift == 0
    assert all(gradient.isfinite().all() and not gradient.any() for gradient in gradients(drift, student).values())


def test_one_weight_moved_by_delta_costs_half_its_square() -> None:
    method = L2SP(L2SPConfig(alpha=1), tiny_network(source_head=False), tiny_context())
    with torch.no_grad():
        method.student.backbone.stem[0].weight[0, 0, 0, 0] += 0.3
    assert_close(method.loss(tiny_batch())["drift"], torch.tensor(0.5 * 0.3**2))


def test_a_step_of_one_over_alpha_leads_back_to_the_start() -> None:
    source = tiny_network(source_head=False)
    method = moved_from(source, L2SPConfig(alpha=4))
    drift = method.loss(tiny_batch())["drift"]
    for name, gradient in gradients(drift, method.student.backbone).items():
        assert_close(method.student.backbone.get_parameter(name) - gradient / 4, source.backbone.get_parameter(name))


def test_the_start_stays_where_it_is_and_out_of_the_optimizer() -> None:
    fit = start(L2SPConfig())
    start_weights = [w.clone() for w in fit.method.student.backbone.parameters()]
    fit.run()
    for kept, first, now in zip(fit.method.start, start_weights, fit.method.student.backbone.parameters(), strict=True):
        assert torch.equal(kept, first)
        assert not torch.equal(kept, now)
    assert not list(fit.method.trainable_parameters())


def test_weights_are_neither_biases_nor_of_normalisation() -> None:
    method = L2SP(L2SPConfig(include="weights"), tiny_network(source_head=False), tiny_context())
    backbone = method.student.backbone
    assert list(map(id, method.held)) == [id(backbone.stem[0].weight), id(backbone.stage[0].weight)]
