from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods.base import Method
from trainables.methods.l2 import L2, L2Config
from trainables.methods.smile import Smile, SmileConfig
from trainables.training.config import TrainingConfig, num_steps_of
from trainables.training.optimizer import build_optimizer, gradients_of, lr_factor, set_learning_rate


def factors(*steps: int, **training: Any) -> list[float]:
    config = TrainingConfig(**training)
    return [lr_factor(config, step) for step in steps]


class TestTheSchedule:
    @pytest.mark.parametrize("num_steps", [3, 9, 300, 9000, 15000])
    def test_drops_after_exactly_two_thirds(self, num_steps: int) -> None:
        drop = num_steps * 2 // 3
        assert factors(1, drop, drop + 1, num_steps, num_steps=num_steps) == [1, 1, 0.1, 0.1]

    def test_drops_where_and_as_far_as_it_is_told(self) -> None:
        told = {"num_steps": 10, "step_drop_at": 0.7, "step_drop_factor": 0.5}
        assert factors(*range(1, 11), **told) == [1] * 7 + [0.5] * 3

    def test_never_drops_at_the_end(self) -> None:
        assert factors(*range(1, 11), num_steps=10, step_drop_at=1) == [1] * 10

    def test_cosine(self) -> None:
        expected = [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]
        assert factors(1, 26, 51, 76, num_steps=100, schedule="cosine") == pytest.approx(expected)

    def test_linear(self) -> None:
        assert factors(1, 2, 3, 4, num_steps=4, schedule="linear") == [1, 0.75, 0.5, 0.25]

    def test_constant(self) -> None:
        assert factors(1, 50, 100, num_steps=100, schedule="constant") == [1, 1, 1]

    @pytest.mark.parametrize("schedule", ["step", "cosine", "linear", "constant"])
    def test_warms_up_from_above_zero_to_one(self, schedule: str) -> None:
        rising = factors(*range(1, 13), num_steps=100, warmup_fraction=0.1, schedule=schedule)
        assert rising[:11] == pytest.approx([step / 11 for step in range(1, 12)])
        assert rising[11] <= 1

    @pytest.mark.parametrize("schedule", ["cosine", "linear"])
    def test_decays_over_what_the_warm_up_leaves(self, schedule: str) -> None:
        assert factors(61, num_steps=100, warmup_fraction=0.2, schedule=schedule) == pytest.approx([0.5])

    @pytest.mark.parametrize("schedule", ["step", "cosine", "linear", "constant"])
    @pytest.mark.parametrize("warmup", [0, 0.1])
    def test_never_stands_still(self, schedule: str, warmup: float) -> None:
        settings = {"num_steps": 40, "schedule": schedule, "warmup_fraction": warmup}
        assert all(0 < factor <= 1 for factor in factors(*range(1, 41), **settings))


class TestTheOptimizer:
    def test_is_sgd_as_configured(self) -> None:
        config = TrainingConfig(learning_rate=0.03, momentum=0.8, weight_decay=0.002, nesterov=True)
        optimizer = build_optimizer(config, l2())
        assert type(optimizer) is torch.optim.SGD
        for group in optimizer.param_groups:
            assert [group[key] for key in ("lr", "momentum", "weight_decay", "nesterov")] == [0.03, 0.8, 0.002, True]

    def test_is_sgd_without_nesterov(self) -> None:
        optimizer = build_optimizer(TrainingConfig(nesterov=False), l2())
        assert not any(group["nesterov"] for group in optimizer.param_groups)

    def test_is_adamw_as_configured(self) -> None:
        optimizer = build_optimizer(TrainingConfig(optimizer="adamw", learning_rate=2e-5, weight_decay=0.05), l2())
        assert type(optimizer) is torch.optim.AdamW
        assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(2e-5, 0.05)] * 2

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_sets_the_heads_rate_relative_to_the_backbones(self, name: str) -> None:
        config = TrainingConfig(optimizer=name, num_steps=9, learning_rate=0.02, head_lr_multiplier=10)
        method = l2()
        optimizer = build_optimizer(config, method)
        for step, body, head in [(1, 0.02, 0.2), (7, 0.002, 0.02)]:
            set_learning_rate(optimizer, config, step)
            assert rate_of(optimizer, method.student.backbone) == pytest.approx(body)
            assert rate_of(optimizer, method.student.target_head) == pytest.approx(head)

    def test_has_the_source_head_beside_the_backbone(self) -> None:
        config = TrainingConfig(learning_rate=0.02, head_lr_multiplier=10)
        method = Smile(SmileConfig(), tiny_network(), tiny_context())
        optimizer = build_optimizer(config, method)
        set_learning_rate(optimizer, config, 1)
        assert rate_of(optimizer, method.student.source_head) == pytest.approx(0.02)

    def test_decays_every_trained_parameter(self) -> None:
        """BatchNorm's and biases included."""
        method = l2()
        groups = build_optimizer(TrainingConfig(weight_decay=0.1), method).param_groups
        assert sum(len(group["params"]) for group in groups) == len(list(method.student.parameters()))
        assert {group["weight_decay"] for group in groups} == {0.1}

    @pytest.mark.parametrize("frozen", ["backbone", "target_head", "backbone.stem.1"])
    def test_has_nothing_frozen(self, frozen: str) -> None:
        method = l2()
        module = method.student.get_submodule(frozen).requires_grad_(False)
        optimizer = build_optimizer(TrainingConfig(), method)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert trained == {id(p) for p in method.student.parameters()} - {id(p) for p in module.parameters()}
        assert all(group["params"] for group in optimizer.param_groups)

    def test_has_the_trained_modules_of_a_method(self) -> None:
        class WithProjector(L2):
            def extra_modules(self) -> nn.ModuleDict:
                return nn.ModuleDict({"projector": projector, "frozen": nn.Linear(2, 2).requires_grad_(False)})

        projector = nn.Linear(6, 4)
        method = WithProjector(L2Config(), tiny_network(), tiny_context())
        body, head = build_optimizer(TrainingConfig(), method).param_groups
        assert [id(p) for p in projector.parameters()] == [id(p) for p in body["params"][-2:]]
        assert [id(p) for p in method.student.target_head.parameters()] == [id(p) for p in head["params"]]

    def test_gradients_are_those_that_it_will_use(self) -> None:
        method = l2()
        optimizer = build_optimizer(TrainingConfig(), method)
        assert gradients_of(optimizer) == []
        sum(method.loss(tiny_batch()).values()).backward()
        used = [p for p in method.student.parameters() if p.grad is not None]
        assert len(gradients_of(optimizer)) == len(used)


class TestTheConfig:
    def test_has_the_papers_defaults(self) -> None:
        config = TrainingConfig()
        assert (config.num_steps, config.batch_size, config.learning_rate) == (9000, 48, 0.01)
        assert (config.momentum, config.weight_decay, config.head_lr_multiplier) == (0.9, 1e-4, 1)
        assert (config.optimizer, config.nesterov, config.schedule) == ("sgd", True, "step")

    def test_length_is_in_steps_or_in_epochs(self) -> None:
        assert TrainingConfig(num_epochs=2).num_steps is None
        with pytest.raises(ValidationError, match="num_steps: null beside num_epochs, got num_steps: 5"):
            TrainingConfig(num_steps=5, num_epochs=2)
        with pytest.raises(ValidationError, match="a number above 0"):
            TrainingConfig(num_steps=0)

    @pytest.mark.parametrize(("num_epochs", "num_steps"), [(1, 6), (2.5, 15), (0.01, 1)])
    def test_length_in_epochs_is_one_of_full_batches(self, num_epochs: float, num_steps: int) -> None:
        config = TrainingConfig(num_epochs=num_epochs, batch_size=16)
        assert num_steps_of(config, num_examples=100) == num_steps
        assert config.resolved(6).resolved_num_steps == num_steps

    def test_length_in_steps_is_the_same_for_all(self) -> None:
        config = TrainingConfig(num_steps=7)
        assert config.resolved(6) is config
        assert num_steps_of(config, 100) == num_steps_of(config, 10) == 7

    def test_nesterov_needs_momentum(self) -> None:
        with pytest.raises(ValidationError, match=r"momentum > 0 with nesterov: true .*, got momentum=0"):
            TrainingConfig(momentum=0)
        TrainingConfig(momentum=0, nesterov=False)
        TrainingConfig(momentum=0, optimizer="adamw")


def l2() -> Method:
    return L2(L2Config(), tiny_network(), tiny_context())


def rate_of(optimizer: torch.optim.Optimizer, module: nn.Module) -> float:
    """The learning rate that all of `module` is trained at."""
    wanted = {id(p) for p in module.parameters()}
    (rate,) = {group["lr"] for group in optimizer.param_groups for p in group["params"] if id(p) in wanted}
    return rate
