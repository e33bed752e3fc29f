"""Contract tests of all methods in `METHODS`; the contract comes with the package."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainables.methods.contract import first_losses, start, total_losses
from tests.trainables.methods.settings import (
    FREEZES_THE_BACKBONE,
    IRREDUCIBLE,
    NORMALISES_BY_THE_BATCH,
    REDUCTIONS,
    SETTINGS,
)
from trainables.methods import METHODS, MethodConfig
from trainables.testing.method_contract import (
    ConfigurationContract,
    FrozenBatchNormContract,
    LossContract,
    TrainingContract,
    assert_identical,
    is_frozen,
)

every_setting = pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS.keys())
every_method = pytest.mark.parametrize("name", METHODS)


@every_setting
class TestTheLoss(LossContract):
    pass


@every_setting
class TestATraining(TrainingContract):
    normalises_by_the_batch = NORMALISES_BY_THE_BATCH


@pytest.mark.parametrize(
    "config",
    [config for config in SETTINGS.values() if not METHODS[config.name].needs_batch_statistics],
    ids=[name for name, config in SETTINGS.items() if not METHODS[config.name].needs_batch_statistics],
)
class TestATrainingWithFrozenBatchNorm(FrozenBatchNormContract):
    pass


@every_method
class TestTheConfiguration(ConfigurationContract):
    pass


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
    def test_knows_which_methods_train_the_head_alone(self, name: str) -> None:
        student = start(METHODS[name].Config()).method.student
        assert is_frozen(student.backbone) == (name in FREEZES_THE_BACKBONE)

    def test_has_a_method_with_a_reduction(self, name: str) -> None:
        assert (name in REDUCTIONS) != (name in IRREDUCIBLE), "add a row to settings.py"
        if name in REDUCTIONS:
            assert REDUCTIONS[name][0].name == name

    def test_has_a_method_with_a_parity_test(self, name: str) -> None:
        file = Path(__file__).with_name(f"test_{name}.py")
        tests = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        assert any(test.startswith("test_") and "match" in test for test in tests)
