"""Contract of a method of fine-tuning: what holds for every one that the training loop takes.

A class of tests each for its loss, its training, its training with BatchNorm frozen, and its configuration. Subclasses
are parametrised by `config`, the settings that are tried.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from trainables.backbones.network import BackboneFacts
from trainables.methods import METHODS, AnyMethodConfig, Method, MethodConfig
from trainables.methods.losses import TargetLoss
from trainables.testing.tiny import CPU, NUM_CLASSES, TinyTokens, tiny_batch
from trainables.testing.trainings import TRAINING, start, started_method, through_a_file
from trainables.training.loop import autocast
from trainables.types import LossTerms

FROZEN = TRAINING.model_copy(update={"batch_norm": "frozen"})


class LossContract:
    """What the loss of every method does."""

    def test_has_named_finite_scalar_terms_with_a_graph(self, config: MethodConfig) -> None:
        terms = started_method(config).loss(tiny_batch())
        assert terms
        for name, term in terms.items():
            assert isinstance(name, str)
            assert term.ndim == 0
            assert term.isfinite()
            assert term.requires_grad

    def test_has_the_same_names_at_every_step(self, config: MethodConfig) -> None:
        method = started_method(config)
        names = [(list(method.loss(tiny_batch(step))), list(method.diagnostics)) for step in range(1, 9)]
        assert all(at_step == names[0] for at_step in names)

    def test_reaches_backbone_and_target_head(self, config: MethodConfig) -> None:
        method = started_method(config)
        backward(method.loss(tiny_batch()))
        backbone, head = method.student.backbone, method.student.target_head
        for module in (head,) if is_frozen(backbone) else (backbone, head):
            for name, parameter in module.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
            assert any(p.grad is not None and p.grad.any() for p in module.parameters())

    def test_leaves_its_batch_as_it_was(self, config: MethodConfig) -> None:
        batch = tiny_batch()
        before = copy.deepcopy(batch)
        backward(started_method(config).loss(batch))
        for field in ("inputs", "labels", "index", "second_inputs"):
            assert torch.equal(getattr(batch, field), getattr(before, field)), field

    def test_takes_a_batch_of_one(self, config: MethodConfig) -> None:
        for term in started_method(config).loss(tiny_batch(count=1)).values():
            assert term.isfinite()

    def test_has_class_weights_and_label_smoothing_in_the_target_term_alone(self, config: MethodConfig) -> None:
        plain = started_method(config).loss(tiny_batch())
        weights_K = torch.tensor([0.25, 1.0, 4.0])
        for target_loss in (TargetLoss(weights_K), TargetLoss(label_smoothing=0.3), TargetLoss(weights_K, 0.3)):
            terms = started_method(config, target_loss=target_loss).loss(tiny_batch())
            if "target_label" not in terms:
                pytest.skip("no term of its loss is the cross-entropy of the target labels")
            assert terms["target_label"].isfinite()
            assert not torch.isclose(terms["target_label"], plain["target_label"], rtol=1e-4)
            for name in terms.keys() - {"target_label"}:
                assert torch.equal(terms[name], plain[name]), name

    def test_of_equal_weights_is_the_plain_one(self, config: MethodConfig) -> None:
        plain = started_method(config).loss(tiny_batch())
        ones = started_method(config, target_loss=TargetLoss(torch.ones(NUM_CLASSES))).loss(tiny_batch())
        torch.testing.assert_close(ones, plain)
        unset = started_method(config, target_loss=TargetLoss(None, 0.0)).loss(tiny_batch())
        assert all(torch.equal(unset[name], plain[name]) for name in plain)

    def test_is_in_full_precision_under_autocast(self, config: MethodConfig) -> None:
        with autocast(TRAINING.model_copy(update={"precision": "bf16"}), CPU):
            rounded = started_method(config).loss(tiny_batch())
        exact = started_method(config).loss(tiny_batch())
        for name, term in rounded.items():
            assert term.dtype == torch.float32
            torch.testing.assert_close(term, exact[name], rtol=0.1, atol=0.01)

    def test_goes_through_token_maps(self, config: MethodConfig) -> None:
        if missing := config.missing_in(BackboneFacts.of(TinyTokens(), "tiny")):
            pytest.skip(f"needs {missing[0]}")
        method = started_method(config, tokens=True)
        terms = method.loss(tiny_batch(tokens=True))
        backward(terms)
        assert all(term.isfinite() for term in terms.values())
        backbone = method.student.backbone
        trained = method.student.target_head if is_frozen(backbone) else backbone.get_submodule("words")
        assert any(p.grad is not None and p.grad.any() for p in trained.parameters())


class TrainingContract:
    """What every training does."""

    normalises_by_the_batch: ClassVar[frozenset[str]] = frozenset()
    """Methods whose frozen network is in training mode, on purpose."""

    def test_runs_in_bf16(self, config: MethodConfig) -> None:
        fit = start(config, TRAINING.model_copy(update={"precision": "bf16"}))
        fit.run(until=3)
        assert {parameter.dtype for parameter in fit.method.student.parameters()} == {torch.float32}

    def test_goes_on_from_a_checkpoint_to_the_bit(self, config: MethodConfig) -> None:
        whole = start(config)
        whole.run()
        stopped = start(config)
        stopped.run(until=3)
        resumed = start(config)
        resumed.load_state_dict(through_a_file(stopped.state_dict()))
        resumed.run()
        assert resumed.history == whole.history
        assert_identical(resumed.state_dict(), whole.state_dict())

    def test_trains_nothing_that_is_frozen(self, config: MethodConfig) -> None:
        fit = start(config)
        trained = {id(p) for group in fit.optimizer.param_groups for p in group["params"]}
        fit.run(until=3)
        student = fit.method.student
        student_part = student.target_head if is_frozen(student.backbone) else student
        meant = {id(p) for p in (*student_part.parameters(), *fit.method.trainable_parameters())}
        assert trained == meant
        for module in modules_beside_the_student(fit.method):
            for parameter in module.parameters():
                assert (id(parameter) in trained) == parameter.requires_grad
                assert parameter.requires_grad or parameter.grad is None

    def test_keeps_the_frozen_in_evaluation_mode(self, config: MethodConfig) -> None:
        if config.name in self.normalises_by_the_batch:
            pytest.skip("its frozen network normalises by the batch")
        fit = start(config)
        fit.run(until=3)
        for module in modules_beside_the_student(fit.method):
            trainable = [parameter.requires_grad for parameter in module.parameters()]
            assert not trainable or any(trainable) or not any(part.training for part in module.modules())

    def test_leaves_no_trace_in_the_global_generators(self, config: MethodConfig) -> None:
        torch.manual_seed(99)  # no state that an earlier training may have left behind
        before = global_states()
        start(config).run(until=3)
        assert global_states() == before

    def test_ends_in_a_classifier_of_the_target_classes(self, config: MethodConfig) -> None:
        fit = start(config)
        fit.run(until=2)
        student = fit.method.student.eval()
        batch = tiny_batch(count=4)
        assert student(student.embed(batch.inputs)).target_logits.shape == (4, NUM_CLASSES)


class FrozenBatchNormContract:
    """What every training with `batch_norm: frozen` does, of a method that can have it."""

    def test_keeps_the_statistics_to_the_bit_and_trains_scale_and_shift(self, config: MethodConfig) -> None:
        fit = start(config, FROZEN)
        modules = nn.ModuleList([fit.method.student, *modules_beside_the_student(fit.method)])
        before = copy.deepcopy(modules.state_dict())
        fit.run()
        after = modules.state_dict()
        assert after.keys() == before.keys()
        statistics = [name for name in after if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
        assert len(statistics) >= 6
        for name in statistics:
            assert torch.equal(after[name], before[name]), name
        norm = dict(fit.method.student.backbone.get_submodule("stem.1").named_parameters(prefix="0.backbone.stem.1"))
        for name, parameter in norm.items():
            assert torch.equal(parameter, before[name]) == is_frozen(fit.method.student.backbone), name

    def test_goes_on_from_a_checkpoint_to_the_bit(self, config: MethodConfig) -> None:
        """Also where it is scored on the way."""
        whole = start(config, FROZEN)
        whole.run()
        stopped = start(config, FROZEN)
        stopped.run(until=2)
        student = stopped.method.student.eval()
        student(student.embed(tiny_batch(count=4).inputs))
        stopped.run(until=3)
        resumed = start(config, FROZEN)
        resumed.load_state_dict(through_a_file(stopped.state_dict()))
        resumed.run()
        assert resumed.history == whole.history
        assert_identical(resumed.state_dict(), whole.state_dict())


class ConfigurationContract:
    """What the configuration class of every method does, by the method's `name`."""

    def test_knows_the_method_by_its_name(self, name: str) -> None:
        config = METHODS[name].Config
        assert get_args(config.model_fields["name"].annotation) == (name,)
        assert config.model_validate({}).name == name
        assert type(TypeAdapter(AnyMethodConfig).validate_python({"name": name})) is config

    def test_refuses_unknown_keys(self, name: str) -> None:
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            METHODS[name].Config.model_validate({"no_such_key": 1})

    def test_keeps_a_configuration_as_it_is(self, name: str) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            METHODS[name].Config.model_validate({}).name = "other"


def is_frozen(backbone: nn.Module) -> bool:
    """Whether a method trains the target head alone."""
    return not any(parameter.requires_grad for parameter in backbone.parameters())


def backward(terms: LossTerms) -> None:
    """Computes the gradients of the sum of the loss terms."""
    torch.autograd.backward(list(terms.values()))


def modules_beside_the_student(method: Method) -> Iterator[nn.Module]:
    """Whether or not the method owns up to them in `extra_modules`."""
    yield from method.extra_modules().values()
    for value in vars(method).values():
        if isinstance(value, nn.Module) and value is not method.student:
            yield value


def global_states() -> tuple[Any, ...]:
    """Of the generators that every library shares."""
    return torch.get_rng_state().tolist(), np.random.get_state(legacy=False)["state"]["key"].tolist(), random.getstate()


def assert_identical(got: Any, expected: Any) -> None:
    """Equal to the bit, through all nesting."""
    assert type(got) is type(expected)
    if isinstance(expected, Tensor):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            assert_identical(got[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for mine, yours in zip(got, expected, strict=True):
            assert_identical(mine, yours)
    else:
        assert got == expected
