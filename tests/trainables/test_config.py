from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.methods.mixup import MixupConfig
from trainables.methods.smile import SmileConfig
from trainables.training.config import TrainingConfig


def trial(**changed: Any) -> TrialConfig:
    sections = {"data": {"dataset": "digits"}, "backbone": {"name": "timm/resnet18"}, "method": {"name": "smile"}}
    return TrialConfig.model_validate(sections | changed)


def test_a_section_left_out_has_its_defaults() -> None:
    config = trial()
    assert config.training == TrainingConfig()
    assert config.seed == 0


@pytest.mark.parametrize("section", ["data", "backbone", "method"])
def test_what_is_searched_over_must_be_said(section: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate({key: value for key, value in trial().model_dump().items() if key != section})
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [((section,), "missing")]


def test_the_name_chooses_the_method() -> None:
    assert trial(method={"name": "smile", "gamma_fe": 0.05}).method == SmileConfig(gamma_fe=0.05)
    assert trial(method={"name": "mixup", "alpha": 0.4}).method == MixupConfig(alpha=0.4)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"sed": 1}, ("sed",)),
        ({"seed": -1}, ("seed",)),
        ({"data": {"dataset": "digits", "sizepx": 32}}, ("data", "sizepx")),
        ({"backbone": {"name": "timm/resnet18", "layers": 3}}, ("backbone", "layers")),
        ({"training": {"num_step": 3}}, ("training", "num_step")),
        ({"training": {"num_steps": 0}}, ("training", "num_steps")),
        ({"training": {"learning_rate": float("inf")}}, ("training", "learning_rate")),
        ({"training": {"optimizer": "lion"}}, ("training", "optimizer")),
        ({"training": {"compile": "fast"}}, ("training", "compile")),
        ({"method": {"name": "delta"}, "training": {"compile": "default"}}, ("training",)),
        ({"method": {"name": "smiel"}}, ("method",)),
        ({"method": {"gamma_fe": 0.1}}, ("method",)),
        ({"method": {"name": "mixup", "gamma_fe": 0.1}}, ("method", "mixup", "gamma_fe")),
        ({"method": {"name": "smile", "gamma_fe": -0.1}}, ("method", "smile", "gamma_fe")),
        ({"method": {"name": "smile", "gamma_fc": float("nan")}}, ("method", "smile", "gamma_fc")),
        ({"method": {"name": "smile", "alpha": 0}}, ("method", "smile", "alpha")),
        ({"method": {"name": "smile", "ema_decay": 1.1}}, ("method", "smile", "ema_decay")),
        ({"method": {"name": "smile", "ema_period_steps": 0}}, ("method", "smile", "ema_period_steps")),
        ({"method": {"name": "smile", "feature_loss": "code"}}, ("method", "smile", "feature_loss")),
        ({"method": {"name": "smile", "source_loss": "code"}}, ("method", "smile", "source_loss")),
        ({"method": {"name": "smile", "formulation": "paper"}}, ("method", "smile", "formulation")),
    ],
)
def test_a_mistake_is_refused_where_it_is(changed: dict[str, Any], where: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        trial(**changed)
    assert [error["loc"] for error in caught.value.errors()] == [where]


def test_a_configuration_stays_as_it_is() -> None:
    config = trial()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.training.num_steps = 1


def test_a_configuration_survives_json_and_pickle() -> None:
    config = trial(method={"name": "smile", "ema_reference_steps": None}, training={"num_steps": 80}, seed=3)
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_smile_has_its_authors_defaults() -> None:
    config = SmileConfig()
    assert (config.feature_loss, config.source_loss) == ("authors", "authors")
    assert (config.gamma_fe, config.gamma_fc, config.alpha) == (0.01, 0.1, 0.2)
    assert (config.ema_decay, config.ema_period_steps, config.ema_reference_steps) == (0.999, 10, 9000)
