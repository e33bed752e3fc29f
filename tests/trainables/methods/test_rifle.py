from __future__ import annotations

import copy

import pytest
import torch

from tests.trainables.methods import references
from tests.trainables.methods.contract import TRAINING, start
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods.rifle import Rifle, RifleConfig, reinitialise


@pytest.mark.usefixtures("float64")
def test_loss_and_gradient_match_plain_cross_entropy() -> None:
    student = tiny_network(source_head=False)
    ours = Rifle(RifleConfig(), student, tiny_context()).loss(tiny_batch())
    assert_parity(ours, references.l2(student, tiny_batch()), student)


@pytest.mark.parametrize(
    ("num_periods", "num_steps", "expected"),
    [
        (1, 9000, []),
        (2, 9000, [4500]),
        (4, 9000, [2250, 4500, 6750]),
        (5, 9001, [1800, 3600, 5401, 7201]),
        (3, 8, [3, 5]),
        (8, 8, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_every_period_but_the_last_ends_in_a_restart(num_periods: int, num_steps: int, expected: list[int]) -> None:
    assert RifleConfig(num_periods=num_periods).restarts(num_steps) == expected


@pytest.mark.parametrize("num_steps", range(1, 12))
def test_the_training_never_ends_with_a_fresh_head(num_steps: int) -> None:
    for num_periods in range(1, 30):
        restarts = RifleConfig(num_periods=num_periods).restarts(num_steps)
        assert num_steps not in restarts
        assert num_periods > num_steps or len(set(restarts)) == num_periods - 1


@pytest.mark.parametrize("num_periods", [1, 2, 3, 5])
def test_a_training_restarts_its_head_and_nothing_else(monkeypatch: pytest.MonkeyPatch, num_periods: int) -> None:
    fit = start(RifleConfig(num_periods=num_periods))
    restarted = []
    after_step = fit.method.after_step

    def watched(step: int) -> None:
        before = copy.deepcopy(fit.method.student.state_dict())
        after_step(step)
        changed = {name for name, x in fit.method.student.state_dict().items() if not torch.equal(x, before[name])}
        if changed:
            assert changed == {"target_head.weight", "target_head.bias"}
            restarted.append(step)

    monkeypatch.setattr(fit.method, "after_step", watched)
    fit.run()
    assert restarted == RifleConfig(num_periods=num_periods).restarts(TRAINING.num_steps)


def test_a_fresh_head_is_as_a_new_linear_layer_and_has_an_address() -> None:
    head = tiny_network().target_head
    before = torch.get_rng_state()
    drawn = []
    for count in (1, 2, 1):
        reinitialise(head, 7, count)
        drawn.append(head.weight.detach().clone())
        assert max(head.weight.abs().max(), head.bias.abs().max()) <= head.in_features**-0.5
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert head.weight.requires_grad
