"""Recorded steps equal computed ones. The recorder is a stand-in for CUDA graphs; see `tape.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.trainables.methods.contract import TRAINING, through_a_file
from tests.trainables.methods.settings import SETTINGS
from tests.trainables.tiny import CPU, TinyConv, TinyTokens, tiny_batch, tiny_context, tiny_network, tiny_pass
from tests.trainables.training.tape import Tape
from trainables.backbones.kept_networks import KeptNetworks
from trainables.errors import Diverged
from trainables.methods import METHODS, Method, MethodConfig, build_method, uses_source_head
from trainables.methods.l2 import L2, L2Config
from trainables.methods.smile import SmileConfig
from trainables.step_values import UploadedValues
from trainables.testing.method_contract import assert_identical
from trainables.training.config import TrainingConfig
from trainables.training.graph import (
    WARM_UP_STEPS,
    EagerSteps,
    RecordedSteps,
    Steps,
    log_once,
    recorder_for,
    why_not_recorded,
)
from trainables.training.loop import Fit
from trainables.types import Batch, LossTerms

NUM_STEPS = 24
RECORDABLE = {name: config for name, config in SETTINGS.items() if METHODS[config.name].is_recordable}


@pytest.fixture(autouse=True)
def nothing_logged_before() -> None:
    log_once.cache_clear()


def fit_of(
    method: MethodConfig | Callable[..., Method],
    tokens: bool = False,
    kept: KeptNetworks | None = None,
    **training: Any,
) -> Fit:
    """A training whose steps are recorded, at step 0. Checks for what is not finite are read at ends of intervals."""
    config = TRAINING.model_copy(update={"num_steps": NUM_STEPS, "schedule": "cosine", **training})
    kept = kept or KeptNetworks()
    context = replace(tiny_context(NUM_STEPS), kept=kept)
    if isinstance(method, MethodConfig):
        student = tiny_network(
            source_head=uses_source_head(method), dropout=0.25, kind=TinyTokens if tokens else TinyConv
        )
        built = build_method(method, kept.copy_of("student", student), context)
    else:
        built = method(L2Config(), tiny_network(source_head=False), context)
    built.prepare(lambda: tiny_pass(tokens))
    fit = Fit(built, lambda step: tiny_batch(step, tokens=tokens), config, CPU, Tape())
    fit.finite.defers = True
    return fit


def computed(method: MethodConfig | Callable[..., Method], tokens: bool = False, **training: Any) -> Fit:
    """The same training, whose steps are computed one by one, in the form that is recorded."""
    fit = fit_of(method, tokens, **training)
    fit.runner = ComputedSteps()
    return fit


class ComputedSteps:
    """Computes each step as those before a recording are, with values on the device: a gradient through a mixed tensor
    is rounded differently with λ as a number."""

    def run(self, steps: Steps, step: int) -> None:
        batch = steps.begin(step)
        steps.compute(replace(batch, values=UploadedValues(step, steps.device)))
        steps.method.after_step(step)


def recordings_of(fit: Fit) -> int:
    assert isinstance(fit.runner, RecordedSteps)
    return fit.runner.num_recordings


def assert_equal(recorded: Fit, computed: Fit) -> None:
    assert_identical(recorded.state_dict(), computed.state_dict())


class TestRecordedSteps:
    @pytest.mark.parametrize("config", RECORDABLE.values(), ids=RECORDABLE.keys())
    def test_equal_computed_ones_to_the_bit(self, config: MethodConfig) -> None:
        """Nothing is read from the device within a step, and nothing comes from the host: the recorder refuses both."""
        recorded, plain = fit_of(config), computed(config)
        recorded.run()
        plain.run()
        assert_equal(recorded, plain)
        assert recordings_of(recorded)

    @pytest.mark.parametrize("name", ["l2", "smile", "l2_sp", "co_tuning", "manifold_mixup"])
    def test_equal_computed_ones_on_texts(self, name: str) -> None:
        recorded, plain = fit_of(SETTINGS[name], tokens=True), computed(SETTINGS[name], tokens=True)
        recorded.run()
        plain.run()
        assert_equal(recorded, plain)
        assert recordings_of(recorded)

    @pytest.mark.parametrize(
        "training",
        [{"optimizer": "adamw"}, {"max_grad_norm": 0.1}, {"precision": "bf16"}, {"momentum": 0, "nesterov": False}],
        ids=str,
    )
    def test_equal_computed_ones_with_other_settings(self, training: dict[str, Any]) -> None:
        config = SmileConfig(ema_period_steps=2)
        recorded, plain = fit_of(config, **training), computed(config, **training)
        recorded.run()
        plain.run()
        assert_equal(recorded, plain)
        assert recordings_of(recorded) == 2, "the step, and the teacher's update"

    @pytest.mark.parametrize("name", ["l2", "smile", "bi_tuning"])
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_equal_computed_ones_on_the_networks_of_another_training(self, name: str, optimizer: str) -> None:
        kept = KeptNetworks()
        states = []
        for _ in range(2):
            recorded = fit_of(SETTINGS[name], kept=kept, optimizer=optimizer)
            recorded.run()
            states.append({id(value) for state in recorded.optimizer.state.values() for value in state.values()})
        plain = computed(SETTINGS[name], optimizer=optimizer)
        plain.run()
        assert_equal(recorded, plain)
        assert recordings_of(recorded)
        assert states[0] == states[1], "the state of the optimiser is kept, that of a method's own modules included"

    def test_are_nearly_those_of_the_usual_optimiser(self) -> None:
        """Which updates in more kernels, and rounds differently."""
        recorded = fit_of(SmileConfig())
        usual = Fit(computed(SmileConfig()).method, tiny_batch, recorded.config, CPU)
        recorded.run()
        usual.run()
        for name, values in usual.history.terms.items():
            assert recorded.history.terms[name] == pytest.approx(values, rel=1e-4)

    def test_stop_and_go_on(self) -> None:
        recorded, plain = fit_of(SETTINGS["smile"]), computed(SETTINGS["smile"])
        plain.run()
        for until in (1, 9, 10, 17, NUM_STEPS):
            recorded.run(until=until)
            recorded.method.student.eval()
        assert_equal(recorded, plain)

    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_resume_to_the_bit(self, optimizer: str) -> None:
        whole, stopped, resumed = (fit_of(SETTINGS["smile"], optimizer=optimizer) for _ in range(3))
        whole.run()
        stopped.run(until=11)
        resumed.load_state_dict(through_a_file(stopped.state_dict()))
        resumed.run()
        assert_equal(resumed, whole)
        assert recordings_of(resumed)

    def test_have_a_recording_for_each_shape_and_key(self) -> None:
        def batch_at(step: int) -> Batch:
            return tiny_batch(step, count=6 if step % 3 else 9)

        recorded, plain = fit_of(L2Config(mixing="mixup")), computed(L2Config(mixing="mixup"))
        for fit in (recorded, plain):
            fit.batch_at = batch_at
            fit.run()
        assert_equal(recorded, plain)
        assert recordings_of(recorded) == 2

    def test_name_the_step_that_diverged(self) -> None:
        """At the end of an interval, like computed ones on a GPU."""
        fit = fit_of(diverging_from(9), num_steps=100)
        with pytest.raises(Diverged) as caught:
            fit.run()
        assert recordings_of(fit) == 1
        assert (caught.value.step, caught.value.term) == (9, "loss term 'target_label'")

    def test_run_no_python(self) -> None:
        calls: list[int] = []

        class Counted(L2):
            is_recordable = True

            def loss(self, batch: Batch) -> LossTerms:
                calls.append(batch.step)
                return super().loss(batch)

        fit_of(Counted).run()
        assert calls == [1, 2, 3, 4], f"{WARM_UP_STEPS} that are computed, and the one that is recorded"

    def test_that_do_not_ask_for_their_values_would_be_seen_here(self) -> None:
        """That the equality above can fail: a number of the host is in the recording as it was."""

        class Careless(L2):
            is_recordable = True

            def loss(self, batch: Batch) -> LossTerms:
                return {name: batch.step * term for name, term in super().loss(batch).items()}

        recorded, plain = fit_of(Careless), computed(Careless)
        recorded.run()
        plain.run()
        assert recorded.history.terms != plain.history.terms


def diverging_from(first: int) -> Callable[..., Method]:
    class Diverging(L2):
        is_recordable = True

        def loss(self, batch: Batch) -> LossTerms:
            step = batch.values.tensor(float) if batch.values is not None else torch.tensor(float(batch.step))
            factor = torch.where(step >= first, torch.nan, 1.0).float()
            return {name: factor * term for name, term in super().loss(batch).items()}

    return Diverging


class Reads(L2):
    """Reads its loss from the device, which no recording can."""

    is_recordable = True

    def loss(self, batch: Batch) -> LossTerms:
        terms = super().loss(batch)
        self.seen = float(terms["target_label"].detach())
        return terms


class Brings(L2):
    """Brings a tensor from the host."""

    is_recordable = True

    def loss(self, batch: Batch) -> LossTerms:
        return {name: term * torch.tensor(2.0) for name, term in super().loss(batch).items()}


class TestFallingBack:
    @pytest.mark.parametrize("method", [Reads, Brings])
    def test_trains_on_as_without(self, method: type[Method], caplog: pytest.LogCaptureFixture) -> None:
        recorded, plain = fit_of(method), computed(method)
        with caplog.at_level(logging.WARNING):
            recorded.run()
        plain.run()
        assert recordings_of(recorded) == 0
        assert_equal(recorded, plain)
        (message,) = [record.message for record in caplog.records]
        assert "could not be recorded, steps are computed one by one" in message

    def test_when_the_update_of_the_teacher_cannot_be_recorded(self) -> None:
        """The folded teacher is not the one of before the failure."""
        tape = Tape()
        record = tape.record

        def refusing(operations: Callable[[], None]) -> Callable[[], None]:
            if tape.lengths:
                operations_seen = record(operations)
                del operations_seen
                raise RuntimeError("operation not permitted when stream is capturing")
            return record(operations)

        tape.record = refusing  # type: ignore[method-assign]
        config = SmileConfig(ema_period_steps=5)
        recorded, plain = fit_of(config), computed(config)
        recorded.runner = RecordedSteps(tape)
        recorded.run()
        plain.run()
        assert len(tape.lengths) == 2
        assert recordings_of(recorded) == 0
        assert_equal(recorded, plain)

    def test_says_why_beforehand(self) -> None:
        cuda = torch.device("cuda")
        methods = {name: computed(config).method for name, config in [("l2", L2Config()), ("bss", SETTINGS["bss"])]}
        graphs = TrainingConfig(num_steps=1, cuda_graphs=True)
        assert why_not_recorded(methods["l2"], graphs, cuda) is None
        assert why_not_recorded(methods["l2"], graphs, CPU) == "the device is cpu"
        compiled = graphs.model_copy(update={"compile": "default"})
        assert why_not_recorded(methods["l2"], compiled, cuda) == "training.compile is default"
        scaled = graphs.model_copy(update={"precision": "fp16"})
        assert str(why_not_recorded(methods["l2"], scaled, cuda)).startswith("in fp16 ")
        assert "method bss" in str(why_not_recorded(methods["bss"], graphs, cuda))

    def test_on_a_cpu_is_to_the_very_training_without_the_setting(self, caplog: pytest.LogCaptureFixture) -> None:
        asked, plain = (TRAINING.model_copy(update={"cuda_graphs": each}) for each in (True, False))
        fits = [Fit(computed(SETTINGS["smile"]).method, tiny_batch, config, CPU) for config in (asked, plain, asked)]
        for fit in fits:
            fit.run()
            assert isinstance(fit.runner, EagerSteps)
        assert_equal(fits[0], fits[1])
        (record,) = caplog.records
        assert record.message == "training.cuda_graphs: the device is cpu; steps are computed one by one"

    def test_nothing_is_recorded_unless_asked_for(self, caplog: pytest.LogCaptureFixture) -> None:
        assert recorder_for(computed(L2Config()).method, TRAINING, torch.device("cuda")) is None
        assert not caplog.records


def test_who_is_not_recordable() -> None:
    """BSS computes eigenvalues on the host. Methods of others say nothing, and are computed."""
    assert {name for name, method in METHODS.items() if not method.is_recordable} == {"bss"}
    assert not Method.is_recordable
