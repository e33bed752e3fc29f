from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.trainables.methods.contract import start, through_a_file
from tests.trainables.tiny import CPU, tiny_batch, tiny_context, tiny_network
from trainables.errors import Diverged
from trainables.methods import Method, MethodConfig
from trainables.methods.mixup import MixupConfig
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit, LossHistory
from trainables.types import Batch, LossTerms

NOT_FINITE = [math.nan, math.inf, -math.inf]


class Scripted(Method):
    """A method whose second term and hooks are the test's; the first is always in order."""

    Config = MethodConfig

    def __init__(self, script: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__(MethodConfig(name="scripted"), tiny_network(), tiny_context())
        self.script = script
        self.asked: list[int] = []
        self.stepped: list[int] = []

    def loss(self, batch: Batch) -> LossTerms:
        self.asked.append(batch.step)
        logits = self.student(self.student.embed(batch.inputs)).target_logits
        self.diagnostics = {"step": torch.tensor(float(batch.step))}
        return {"sound": logits.square().mean(), "scripted": self.script(batch.step, logits.mean())}

    def after_step(self, step: int) -> None:
        self.stepped.append(step)


def fit_of(script: Callable[[int, Tensor], Tensor], num_steps: int = 8) -> Fit:
    config = TrainingConfig(num_steps=num_steps, learning_rate=0.01)
    return Fit(Scripted(script), tiny_batch, config, CPU)


def step_itself(step: int, x: Tensor) -> Tensor:
    """A term with a known value."""
    return x - x.detach() + step


class TestDivergence:
    @pytest.mark.parametrize("value", NOT_FINITE)
    @pytest.mark.parametrize("bad_step", [1, 3, 8])
    def test_names_the_first_step_and_term(self, value: float, bad_step: int) -> None:
        fit = fit_of(lambda step, x: x * (value if step >= bad_step else 1))
        with pytest.raises(Diverged, match=f"loss term 'scripted' is not finite at step {bad_step}") as caught:
            fit.run()
        assert (caught.value.step, caught.value.term) == (bad_step, "loss term 'scripted'")

    def test_is_seen_in_the_gradient_of_a_finite_loss(self) -> None:
        """The root has an infinite slope at zero."""
        fit = fit_of(lambda step, x: (x - x.detach()).sqrt() if step == 3 else x)
        with pytest.raises(Diverged) as caught:
            fit.run()
        assert (caught.value.step, caught.value.term) == (3, "the gradient")

    def test_stops_before_the_optimiser_can_spoil_the_weights(self) -> None:
        fit = fit_of(lambda step, x: x * (math.nan if step == 3 else 1))
        with pytest.raises(Diverged):
            fit.run()
        assert fit.method.stepped == [1, 2]
        assert all(parameter.isfinite().all() for parameter in fit.method.student.parameters())

    def test_of_what_is_only_watched_is_none(self) -> None:
        fit = fit_of(step_itself)
        fit.method.diagnostics = {"step": torch.tensor(math.nan)}
        fit.run(until=1)


class TestSteps:
    def test_run_from_one_to_the_budget_once(self) -> None:
        fit = fit_of(step_itself)
        fit.run()
        fit.run()
        assert fit.method.asked == fit.method.stepped == list(range(1, 9))

    def test_stop_where_they_are_told_to(self) -> None:
        fit = fit_of(step_itself)
        for until, done in [(3, 3), (2, 3), (5, 5), (99, 8)]:
            fit.run(until=until)
            assert fit.step == done
        assert fit.method.asked == list(range(1, 9))

    def test_are_watched_one_by_one(self) -> None:
        fit = fit_of(step_itself)
        seen: list[tuple[int, list[int]]] = []
        fit.run(until=3, watch=lambda: seen.append((fit.step, list(fit.method.stepped))))
        assert seen == [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])]

    def test_put_the_student_into_training_mode(self) -> None:
        fit = fit_of(step_itself)
        fit.method.student.eval()
        fit.run(until=1)
        assert all(module.training for module in fit.method.student.modules())

    def test_draw_dropout_at_their_own_address(self) -> None:
        """Whatever state the global generator is in, and wherever the training was interrupted."""
        whole, parted = start(MixupConfig()), start(MixupConfig())
        whole.run()
        for until in (1, 4, 8):
            torch.manual_seed(until)
            parted.run(until=until)
        assert parted.history == whole.history


class TestHistory:
    @pytest.mark.parametrize(
        ("num_steps", "every", "last_steps"), [(8, 1, [6, 7, 8]), (50, 2, [46, 48, 50]), (51, 2, [48, 50, 51])]
    )
    def test_holds_means_over_stretches(self, num_steps: int, every: int, last_steps: list[int]) -> None:
        fit = fit_of(step_itself, num_steps)
        fit.run()
        assert fit.history.every == every
        assert fit.history.steps[-3:] == last_steps
        starts = [0, *fit.history.steps[:-1]]
        means = [(first + 1 + last) / 2 for first, last in zip(starts, fit.history.steps, strict=True)]
        assert fit.history.terms["scripted"] == pytest.approx(means)
        assert fit.history.terms["step"] == fit.history.terms["scripted"]

    def test_has_about_25_points(self) -> None:
        history = LossHistory(every=max(1, 9000 // 25))
        for step in range(1, 9001):
            history.add(step, {"loss": torch.tensor(1.0)}, last=step == 9000)
        assert len(history.steps) == 25
        assert history.terms == {"loss": [1.0] * 25}

    def test_goes_on_from_a_checkpoint_within_a_stretch(self) -> None:
        whole, stopped, resumed = (fit_of(step_itself, 50) for _ in range(3))
        whole.run(until=10)
        stopped.run(until=5)
        resumed.load_state_dict(through_a_file(stopped.state_dict()))
        resumed.run(until=10)
        assert resumed.history == whole.history
        assert resumed.history.steps == [2, 4, 6, 8, 10]

    def test_in_a_checkpoint_stays_as_it_was(self) -> None:
        fit = fit_of(step_itself)
        fit.run(until=2)
        state = fit.state_dict()
        fit.run()
        assert state["history"]["steps"] == [1, 2]


def test_resuming_needs_the_optimisers_state() -> None:
    """That the contract's equality to the bit can fail: without momentum the next step is another."""
    whole, stopped, resumed = (start(MixupConfig()) for _ in range(3))
    whole.run()
    stopped.run(until=3)
    state = through_a_file(stopped.state_dict())
    state["optimizer"]["state"] = {}
    resumed.load_state_dict(state)
    resumed.run()
    assert resumed.history != whole.history
