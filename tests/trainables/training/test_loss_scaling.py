"""Trainings in fp16, on the CPU: steps that overflow are skipped, and the others are those of fp32."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from tests.trainables.methods.contract import start, through_a_file
from tests.trainables.tiny import CPU
from trainables.errors import Diverged
from trainables.methods.mixup import MixupConfig
from trainables.methods.smile import SmileConfig
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit
from trainables.training.loss_scaling import LossScaling

FP16 = TrainingConfig(num_steps=8, learning_rate=0.01, precision="fp16", max_grad_norm=5.0)


class Slope:
    """One weight, whose gradient is what a step says, and its optimiser."""

    def __init__(self, scaling: LossScaling) -> None:
        self.weight = nn.Parameter(torch.zeros(()))
        self.optimizer = SGD([self.weight], lr=1.0)
        self.scaling = scaling

    def step(self, gradient: float) -> Tensor:
        self.optimizer.zero_grad()
        self.scaling.backward(self.weight * gradient, self.optimizer)
        assert self.weight.grad is not None
        judged = self.scaling.judged(self.weight.grad.abs().reshape(1))
        self.scaling.step(self.optimizer)
        return judged


def test_gradients_are_those_of_the_loss() -> None:
    slope = Slope(LossScaling("fp16", CPU))
    slope.step(1e-7)
    assert slope.weight.item() == pytest.approx(-1e-7)
    assert slope.scaling.num_skipped == 0


def test_a_step_that_overflows_is_skipped_and_counted() -> None:
    slope = Slope(LossScaling("fp16", CPU))
    assert slope.step(math.inf).tolist() == [0.0]  # no divergence
    assert slope.weight.item() == 0
    slope.step(1.0)
    assert (slope.weight.item(), slope.scaling.num_skipped) == (-1.0, 1)


def test_gradients_that_are_never_finite_are_a_divergence() -> None:
    slope = Slope(LossScaling("fp16", CPU))
    judged = [slope.step(math.inf).item() for _ in range(20)]
    assert judged[:16] == [0.0] * 16  # the scale is 2^16, and halves
    assert judged[-1] == math.inf


def test_the_state_is_kept() -> None:
    first, second = (Slope(LossScaling("fp16", CPU)) for _ in range(2))
    first.step(math.inf)
    second.scaling.load_state_dict(first.scaling.state_dict())
    assert second.scaling.num_skipped == 1
    assert second.scaling.state_dict() == first.scaling.state_dict()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_are_left_alone(precision: str) -> None:
    scaling = LossScaling(precision, CPU)  # type: ignore[arg-type]
    slope = Slope(scaling)
    assert slope.step(2.0).tolist() == [2.0]
    assert (slope.weight.item(), scaling.num_skipped, scaling.state_dict()) == (-2.0, 0, {})


class TestTrainings:
    def test_are_near_to_those_in_fp32(self) -> None:
        fits = [start(SmileConfig(), FP16.model_copy(update={"precision": each})) for each in ("fp16", "fp32")]
        for fit in fits:
            fit.run()
        half, full = (fit.history.terms["target_label"] for fit in fits)
        assert half == pytest.approx(full, rel=0.05)
        assert half != full

    def test_resume_to_the_bit_with_their_scale(self) -> None:
        whole, parted = start(MixupConfig(), FP16), start(MixupConfig(), FP16)
        whole.run()
        parted.run(until=3)
        resumed = start(MixupConfig(), FP16)
        resumed.load_state_dict(through_a_file(parted.state_dict()))
        resumed.run()
        assert resumed.history == whole.history
        assert resumed.state_dict()["scaling"] == whole.state_dict()["scaling"]

    def test_have_a_finite_history_where_a_step_is_skipped(self) -> None:
        fit = start(MixupConfig(), FP16)
        overflow_at(fit, {1, 2})
        fit.run()
        assert fit.scaling.num_skipped == 2
        assert fit.history.terms["gradient_norm"][:2] == [0, 0]
        assert all(math.isfinite(value) for values in fit.history.terms.values() for value in values)

    def test_end_where_every_step_overflows(self) -> None:
        fit = start(MixupConfig(), FP16.model_copy(update={"num_steps": 40}))
        overflow_at(fit, set(range(1, 41)))
        with pytest.raises(Diverged, match="the gradient"):
            fit.run()


def overflow_at(fit: Fit, steps: set[int]) -> None:
    """Has a weight of the head overflow in its gradient at these steps."""
    parameter = next(fit.method.student.target_head.parameters())
    parameter.register_hook(lambda gradient: gradient * math.inf if fit.step in steps else gradient)
