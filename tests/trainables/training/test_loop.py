from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainables.methods.contract import start, through_a_file
from tests.trainables.tiny import CPU, tiny_batch, tiny_context, tiny_network
from trainables.errors import Diverged
from trainables.methods import Method, MethodConfig
from trainables.methods.mixup import MixupConfig
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit, LossHistory, clip
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


def steep(step: int, x: Tensor) -> Tensor:
    """A term with a large gradient."""
    return 100 * x


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

    def test_may_be_none(self) -> None:
        config = TrainingConfig(num_steps=0, head_init="probe")
        fit = Fit(Scripted(step_itself), tiny_batch, config, CPU)
        fit.run()
        assert fit.step == 0
        assert (fit.history.steps, fit.history.terms) == ([], {})

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


def gradients(sizes: tuple[int, ...] = (3, 40, 1), scale: float = 1.0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [scale * torch.randn(size, generator=rng) for size in sizes]


class TestClipping:
    @pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
    @pytest.mark.parametrize("max_norm", [0.5, 6])
    def test_is_torchs_own_to_the_bit(self, scale: float, max_norm: float) -> None:
        parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients()]
        for parameter, gradient in zip(parameters, gradients(scale=scale), strict=True):
            parameter.grad = gradient
        expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        ours = gradients(scale=scale)
        norm = clip(ours, torch.stack([gradient.norm() for gradient in ours]), max_norm)
        assert torch.equal(norm, expected)
        assert all(torch.equal(a, b.grad) for a, b in zip(ours, parameters, strict=True))

    def test_bounds_the_joint_norm_and_keeps_the_direction(self) -> None:
        before, after = gradients(scale=100), gradients(scale=100)
        norm = clip(after, torch.stack([gradient.norm() for gradient in after]), max_norm=1)
        assert float(torch.cat(after).norm()) == pytest.approx(1, rel=1e-5)
        torch.testing.assert_close(torch.cat(after), torch.cat(before) / norm)

    def test_changes_nothing_that_is_short(self) -> None:
        after = gradients(scale=1e-3)
        clip(after, torch.stack([gradient.norm() for gradient in after]), max_norm=1)
        assert all(torch.equal(a, b) for a, b in zip(after, gradients(scale=1e-3), strict=True))

    def test_limits_a_step_of_the_optimiser(self) -> None:
        """A step of plain SGD is the gradient, with the learning rate as factor."""
        settings = {"num_steps": 3, "learning_rate": 1.0, "momentum": 0, "nesterov": False, "weight_decay": 0}
        fit = Fit(Scripted(steep), tiny_batch, TrainingConfig(max_grad_norm=0.01, **settings), CPU)
        before = [parameter.detach().clone() for parameter in fit.method.student.parameters()]
        fit.run(until=1)
        moved = [after.detach() - start for after, start in zip(fit.method.student.parameters(), before, strict=True)]
        assert float(torch.cat([each.flatten() for each in moved]).norm()) == pytest.approx(0.01, rel=1e-3)

    def test_reports_the_norm_before_it(self) -> None:
        config = TrainingConfig(num_steps=3, max_grad_norm=0.01)
        fit = Fit(Scripted(steep), tiny_batch, config, CPU)
        fit.run()
        assert len(fit.history.terms["gradient_norm"]) == 3
        assert fit.history.terms["gradient_norm"][0] > 1
        unclipped = fit_of(steep, 3)
        unclipped.run()
        assert "gradient_norm" not in unclipped.history.terms

    def test_that_never_bites_changes_no_training(self) -> None:
        plain, clipped = (
            fit_of(step_itself),
            Fit(
                Scripted(step_itself),
                tiny_batch,
                TrainingConfig(num_steps=8, learning_rate=0.01, max_grad_norm=1e6),
                CPU,
            ),
        )
        plain.run()
        clipped.run()
        assert clipped.history.terms["sound"] == plain.history.terms["sound"]

    @pytest.mark.parametrize("value", NOT_FINITE)
    def test_of_what_is_not_finite_is_none(self, value: float) -> None:
        fit = Fit(Scripted(lambda step, x: x * value), tiny_batch, TrainingConfig(num_steps=3, max_grad_norm=1), CPU)
        with pytest.raises(Diverged):
            fit.run()
        assert all(parameter.isfinite().all() for parameter in fit.method.student.parameters())

    def test_is_resumed_to_the_bit(self) -> None:
        config = TrainingConfig(num_steps=8, learning_rate=0.01, max_grad_norm=0.1)
        whole, stopped, resumed = (Fit(Scripted(steep), tiny_batch, config, CPU) for _ in range(3))
        whole.run()
        stopped.run(until=3)
        resumed.load_state_dict(through_a_file(stopped.state_dict()))
        resumed.run()
        assert resumed.history == whole.history


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
            history.add({"loss": torch.tensor(1.0)})
            history.end_step(step, last=step == 9000)
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


class TestDeferredCheck:
    """As on a GPU, where nothing is read but at the end of a stretch of steps."""

    def deferred(self, script: Callable[[int, Tensor], Tensor], num_steps: int = 100) -> Fit:
        fit = fit_of(script, num_steps)
        fit.finite.defers = True
        return fit

    @pytest.mark.parametrize("bad_step", [1, 5, 6, 8])
    def test_names_the_same_step_and_term(self, bad_step: int) -> None:
        fit = self.deferred(lambda step, x: x * (math.nan if step == bad_step else 1))
        with pytest.raises(Diverged) as caught:
            fit.run()
        assert (caught.value.step, caught.value.term) == (bad_step, "loss term 'scripted'")
        assert fit.step == 4 * math.ceil(bad_step / 4), "read at the end of a stretch of four steps"

    def test_is_read_before_a_fit_that_stops_within_a_stretch_is_used(self) -> None:
        fit = self.deferred(lambda step, x: x * (math.inf if step == 2 else 1))
        with pytest.raises(Diverged, match="at step 2"):
            fit.run(until=3)

    def test_reads_the_device_once_a_stretch(self) -> None:
        fit = self.deferred(lambda step, x: x)
        with HostReads() as reads:
            fit.run()
        assert reads.count <= 100 // 4 + 1, "one for each stretch, and one at the end"


class HostReads(TorchDispatchMode):
    """Counts the operations after which the host knows a value of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            self.count += 1
        return func(*args, **(kwargs or {}))
