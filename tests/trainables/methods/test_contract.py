"""Contract tests of all methods in `METHODS`."""

from __future__ import annotations

import ast
import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from tests.trainables.methods.contract import (
    TRAINING,
    first_losses,
    start,
    started_method,
    through_a_file,
    total_losses,
)
from tests.trainables.methods.settings import (
    FREEZES_THE_BACKBONE,
    IRREDUCIBLE,
    NORMALISES_BY_THE_BATCH,
    REDUCTIONS,
    SETTINGS,
)
from tests.trainables.tiny import CPU, NUM_CLASSES, TinyTokens, tiny_batch
from trainables.backbones.network import BackboneFacts
from trainables.methods import METHODS, AnyMethodConfig, Method, MethodConfig
from trainables.methods.losses import TargetLoss
from trainables.training.loop import autocast

every_setting = pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS.keys())
every_method = pytest.mark.parametrize("name", METHODS)


@every_setting
class TestTheLoss:
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
        sum(method.loss(tiny_batch()).values()).backward()
        backbone, head = method.student.backbone, method.student.target_head
        for module in (head,) if config.name in FREEZES_THE_BACKBONE else (backbone, head):
            for name, parameter in module.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
            assert any(parameter.grad.any() for parameter in module.parameters())

    def test_leaves_its_batch_as_it_was(self, config: MethodConfig) -> None:
        batch = tiny_batch()
        before = copy.deepcopy(batch)
        sum(started_method(config).loss(batch).values()).backward()
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
        sum(terms.values()).backward()
        assert all(term.isfinite() for term in terms.values())
        trained = method.student.target_head if config.name in FREEZES_THE_BACKBONE else method.student.backbone.words
        assert trained.weight.grad.any()


@every_setting
class TestATraining:
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
        student = fit.method.student.target_head if config.name in FREEZES_THE_BACKBONE else fit.method.student
        meant = {id(p) for p in (*student.parameters(), *fit.method.trainable_parameters())}
        assert trained == meant
        for module in modules_beside_the_student(fit.method):
            for parameter in module.parameters():
                assert (id(parameter) in trained) == parameter.requires_grad
                assert parameter.requires_grad or parameter.grad is None

    def test_keeps_the_frozen_in_evaluation_mode(self, config: MethodConfig) -> None:
        if config.name in NORMALISES_BY_THE_BATCH:
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


FROZEN = TRAINING.model_copy(update={"batch_norm": "frozen"})


@pytest.mark.parametrize(
    "config",
    [config for config in SETTINGS.values() if not METHODS[config.name].needs_batch_statistics],
    ids=[name for name, config in SETTINGS.items() if not METHODS[config.name].needs_batch_statistics],
)
class TestATrainingWithFrozenBatchNorm:
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
        norm = dict(fit.method.student.backbone.stem[1].named_parameters(prefix="0.backbone.stem.1"))
        for name, parameter in norm.items():
            assert torch.equal(parameter, before[name]) == (config.name in FREEZES_THE_BACKBONE), name

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


def test_losses_are_equal_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.trainables.methods.contract"]
    environment = os.environ | {"PYTHONHASHSEED": "4321"}
    root = Path(__file__).parents[3]
    answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == first_losses()


@pytest.mark.parametrize(("reduced", "base"), REDUCTIONS.values(), ids=REDUCTIONS.keys())
def test_without_weight_it_is_the_plain_method_to_the_bit(reduced: MethodConfig, base: MethodConfig) -> None:
    fit, plain = start(reduced), start(base)
    fit.run()
    plain.run()
    assert total_losses(fit) == total_losses(plain)
    assert_identical(fit.method.student.state_dict(), plain.method.student.state_dict())


@every_method
class TestTheRegistry:
    def test_knows_the_method_by_its_name(self, name: str) -> None:
        config = METHODS[name].Config
        assert config.model_fields["name"].annotation == Literal[name]
        assert config().name == name
        assert type(TypeAdapter(AnyMethodConfig).validate_python({"name": name})) is config

    def test_refuses_unknown_keys(self, name: str) -> None:
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            METHODS[name].Config(no_such_key=1)

    def test_keeps_a_configuration_as_it_is(self, name: str) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            METHODS[name].Config().name = "other"

    def test_has_a_method_with_a_reduction(self, name: str) -> None:
        assert (name in REDUCTIONS) != (name in IRREDUCIBLE), "add a row to settings.py"
        if name in REDUCTIONS:
            assert REDUCTIONS[name][0].name == name

    def test_has_a_method_with_a_parity_test(self, name: str) -> None:
        file = Path(__file__).with_name(f"test_{name}.py")
        tests = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        assert any(test.startswith("test_") and "match" in test for test in tests)


def modules_beside_the_student(method: Method) -> Iterator[nn.Module]:
    """Whether or not the method owns up to them in `extra_modules`."""
    yield from method.extra_modules().values()
    for value in vars(method).values():
        if isinstance(value, nn.Module) and value is not method.student:
            yield value


def global_states() -> tuple[Any, ...]:
    """Of the generators that every library shares."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


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
