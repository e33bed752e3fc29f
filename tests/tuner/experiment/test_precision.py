"""What `auto` becomes in an experiment."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from tuner.experiment.precision import PRECISIONS, Precisions
from tuner.experiment.search_experiment import with_precisions

FOUND = Precisions(training="bf16", teacher="bf16")
POINT: dict[str, Any] = {"method.gamma_fe": 0.02, "method.alpha": 0.5}


def test_what_all_kinds_of_hardware_are_made_for() -> None:
    turing, ampere = Precisions(training="fp16"), FOUND
    assert Precisions.common([ampere, ampere]) == ampere
    assert Precisions.common([ampere, turing]) == turing
    assert Precisions.common([turing, Precisions()]) == Precisions.common([]) == Precisions()


def test_auto_is_replaced_in_configurations_and_in_the_record() -> None:
    space = with_precisions(space_of(), FOUND)
    config = space.trial_config(POINT)
    assert (config.training.precision, config.method.teacher_precision) == ("bf16", "bf16")
    tree = space.as_tree()
    assert (tree["training"]["precision"], tree["method"]["teacher_precision"]) == ("bf16", "bf16")


def test_what_a_file_says_stays() -> None:
    space = space_of(training__precision="fp32", method__teacher_precision="fp32")
    assert with_precisions(space, FOUND) == space


def test_the_space_itself_is_not_changed() -> None:
    space = space_of()
    with_precisions(space, FOUND)
    assert space == space_of()


def test_alternatives_have_it_too() -> None:
    trainings = {"num_steps": 2, "choice": [{"label": "a"}, {"label": "b", "precision": "fp16"}]}
    methods = {"choice": [{"name": "l2"}, {"name": "smile"}]}
    space = with_precisions(space_of(training=trainings, method=methods), FOUND)
    configs = [space.trial_config({"method": "smile", "training": label}) for label in "ab"]
    assert [config.training.precision for config in configs] == ["bf16", "fp16"]
    assert {config.method.model_dump()["teacher_precision"] for config in configs} == {"bf16"}


def test_methods_without_a_teacher_get_none() -> None:
    space = with_precisions(space_of(method={"name": "l2"}), FOUND)
    assert "teacher_precision" not in space.as_tree()["method"]


@pytest.mark.parametrize("path", PRECISIONS)
def test_auto_is_no_choice_of_a_dimension(path: str) -> None:
    with pytest.raises(BadInput, match=rf"{path}: expected a choice without auto.*got choice \[auto, fp32\]"):
        space_of(**{path.replace(".", "__"): {"choice": ["auto", "fp32"]}})
