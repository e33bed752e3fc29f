from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.tuner.tiny import tree_of
from trainables.config import TrialConfig
from trainables.errors import Problem
from tuner.experiment.settings import ResourceSettings
from tuner.messages.validation import problems_from_pydantic


def problems_of(**changes: Any) -> list[Problem]:
    tree = tree_of(method__gamma_fe=0.01, method__alpha=0.2, name=None, search=None) | {"seed": 0}
    for path, value in changes.items():
        section, _, leaf = path.partition("__")
        tree[section][leaf] = value
    with pytest.raises(ValidationError) as error:
        TrialConfig.model_validate(tree)
    return problems_from_pydantic(error.value, TrialConfig)


@pytest.mark.parametrize(
    ("changes", "where", "expected", "got"),
    [
        (
            {"training__num_step": 3},
            "training.num_step",
            "one of the keys head_init, num_steps, ",
            "the unknown key 'num_step' (did you mean 'num_steps'?)",
        ),
        (
            {"method__gama_fe": 1},
            "method.gama_fe",
            "gamma_fe, gamma_fc",
            "the unknown key 'gama_fe' (did you mean 'gamma_fe'?)",
        ),
        (
            {"method__formulation": "paper"},
            "method.formulation",
            "the keys feature_loss and source_loss, each authors or paper",
            "'formulation', a key of earlier versions",
        ),
        ({"method__name": "smyle"}, "method.name", "one of l2, ", "'smyle' (did you mean 'smile'?)"),
        ({"method__name": None}, "method.name", "one of l2, ", "nothing"),
        ({"training__num_steps": 0}, "training.num_steps", "a number above 0", "0"),
        ({"training__optimizer": "adam"}, "training.optimizer", "'sgd' or 'adamw'", "'adam' (did you mean 'adamw'?)"),
        ({"training__learning_rate": "fast"}, "training.learning_rate", "a number", "'fast'"),
        ({"data__resize_px": 8}, "data", "resize_px ≥ size_px", "resize_px=8, size_px=32"),
        ({"method__ema_decay": 1.5}, "method.ema_decay", "a number of at most 1", "1.5"),
    ],
)
def test_names_the_key_as_it_stands_in_the_file(changes: Any, where: str, expected: str, got: str) -> None:
    (problem,) = problems_of(**changes)
    assert problem.where == where
    assert expected in problem.expected
    assert problem.got == got


def test_a_missing_key() -> None:
    with pytest.raises(ValidationError) as error:
        TrialConfig.model_validate({"data": {"dataset": "digits"}, "backbone": {}, "method": {"name": "l2"}})
    assert problems_from_pydantic(error.value, TrialConfig) == [Problem("backbone.name", "a value", "nothing")]


def test_a_prefix_is_the_section() -> None:
    with pytest.raises(ValidationError) as error:
        ResourceSettings.model_validate({"cpus": 0, "gpus": 1.5})
    cpus, gpus = problems_from_pydantic(error.value, ResourceSettings, prefix="resources")
    assert (cpus.where, gpus.where) == ("resources.cpus", "resources.gpus")
    assert (gpus.expected, gpus.got) == ("a share of one GPU (0 to 1: a trial trains on one) or 'auto'", "1.5")


def test_a_share_is_a_number_or_auto() -> None:
    assert ResourceSettings.model_validate({"gpus": "auto"}).gpus == "auto"
    with pytest.raises(ValidationError) as error:
        ResourceSettings.model_validate({"gpus": "automatic"})
    (gpus,) = problems_from_pydantic(error.value, ResourceSettings, prefix="resources")
    assert (gpus.where, gpus.got) == ("resources.gpus", "'automatic'")
    assert "auto" in gpus.expected


def test_every_mistake_is_a_problem() -> None:
    found = problems_of(training__num_steps=0, training__batch_size=-1, data__size_px=0, method__alpha=-1)
    assert {p.where for p in found} >= {"training.num_steps", "training.batch_size", "data.size_px", "method.alpha"}
