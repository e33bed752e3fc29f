"""Baselines of a space: the same data, backbone and training, with a method of their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from tuner.experiment.baselines import (
    baseline_config,
    baseline_configs,
    config_of_leaves,
    middle,
    typical_point,
)
from tuner.experiment.dimensions import Choice, Dimension, Integer, LogUniform, Uniform
from tuner.experiment.settings import Baseline
from tuner.experiment.tree import flatten

BOTH: tuple[Baseline, ...] = ("linear_probe", "fine_tuning")
LEARNING_RATE = {"log_uniform": [0.001, 0.1]}


def test_a_linear_probe_trains_nothing_and_keeps_data_and_backbone() -> None:
    space = space_of(training__compile="none", training__precision="bf16")
    probe, trial = baseline_config(space, "linear_probe"), next(space.boundary_configs())
    assert probe.method.model_dump(include={"name", "backbone_mode"}) == {
        "name": "feature_extraction",
        "backbone_mode": "eval",
    }
    assert (probe.training.num_steps, probe.training.num_epochs, probe.training.head_init) == (0, None, "probe")
    assert (probe.data, probe.backbone, probe.seed) == (trial.data, trial.backbone, trial.seed)
    assert probe.training.precision == "bf16"


def test_a_linear_probe_of_a_space_that_counts_epochs() -> None:
    space = space_of(training__num_steps=None, training__num_epochs=3)
    assert baseline_config(space, "linear_probe").training.num_steps == 0
    assert baseline_config(space, "fine_tuning").training.num_epochs == 3


def test_fine_tuning_has_the_training_of_the_trials() -> None:
    space = space_of()
    plain, trial = baseline_config(space, "fine_tuning"), next(space.boundary_configs())
    assert plain.method.name == "l2"
    assert plain.training == trial.training
    assert (plain.data, plain.backbone, plain.seed) == (trial.data, trial.backbone, trial.seed)


def test_a_searched_leaf_of_the_training_has_its_default_where_it_may() -> None:
    points = [{"learning_rate": 0.05}]
    space = space_of(training__learning_rate=LEARNING_RATE, search__first_points=points)
    assert baseline_config(space, "fine_tuning").training.learning_rate == 0.01


def test_any_other_leaf_is_that_of_the_first_point_that_names_it() -> None:
    points = [{"gamma_fe": 0.02}, {"learning_rate": 0.0005, "gamma_fe": 0.03}, {"learning_rate": 0.0002}]
    rates = {"log_uniform": [0.0001, 0.001]}
    space = space_of(training__learning_rate=rates, search__first_points=points)
    assert typical_point(space)["method.gamma_fe"] == 0.02
    assert baseline_config(space, "fine_tuning").training.learning_rate == 0.0005


def test_else_it_is_in_the_middle_of_its_range() -> None:
    rates = {"log_uniform": [0.0001, 0.001]}
    space = space_of(training__learning_rate=rates, training__batch_size={"choice": [8, 16]})
    training = baseline_config(space, "fine_tuning").training
    assert (training.learning_rate, training.batch_size) == (pytest.approx(0.000316, rel=1e-3), 8)


def test_of_alternatives_in_the_training_it_is_the_most_ordinary() -> None:
    frozen = {"label": "frozen", "batch_norm": "frozen", "head_init": "probe", "learning_rate": LEARNING_RATE}
    moving = {"label": "moving", "learning_rate": {"log_uniform": [0.02, 0.08]}}
    points = [{"training": "frozen", "learning_rate": 0.002}]
    for choice in ([frozen, moving], [moving, frozen]):
        space = space_of(training={"num_steps": 2, "batch_size": 8, "choice": choice}, search__first_points=points)
        training = baseline_config(space, "fine_tuning").training
        assert (training.batch_norm, training.head_init) == ("train", "random")
        assert training.learning_rate == pytest.approx(0.04)


def test_alternatives_of_the_method_do_not_matter() -> None:
    space = space_of(method={"choice": [{"name": "mixup"}, {"name": "smile", "gamma_fe": {"uniform": [0.1, 1.0]}}]})
    assert baseline_config(space, "fine_tuning").method.name == "l2"


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (Uniform(uniform=(0.0, 1.0)), 0.5),
        (LogUniform(log_uniform=(0.01, 1.0)), 0.1),
        (Integer(int=(1, 4)), 2),
        (Choice(choice=("b", "a")), "b"),
    ],
)
def test_middles(dimension: Dimension, value: Any) -> None:
    assert middle(dimension) == pytest.approx(value)


def test_random_weights_have_no_linear_probe() -> None:
    space = space_of(backbone__pretrained=False, search__baselines=BOTH)
    found = baseline_configs(space)
    refused, plain = found["linear_probe"], found["fine_tuning"]
    assert isinstance(refused, BadInput)
    assert str(refused) == "expected a pre-trained backbone, got random weights"
    assert not isinstance(plain, BadInput)


def test_the_only_trial_is_no_baseline_of_itself() -> None:
    space = space_of(method={"name": "l2"})
    with pytest.raises(BadInput, match="another configuration than the only trial's"):
        baseline_config(space, "fine_tuning")
    assert baseline_config(space, "linear_probe").method.name == "feature_extraction"


def test_only_those_that_are_asked_for_are_built() -> None:
    assert list(baseline_configs(space_of(search__baselines=["fine_tuning"]))) == ["fine_tuning"]
    assert baseline_configs(space_of(search__baselines=[])) == {}


@pytest.mark.parametrize("name", BOTH)
def test_every_leaf_of_one_makes_it_again(name: Baseline) -> None:
    config = baseline_config(space_of(training__learning_rate=LEARNING_RATE), name)
    assert config_of_leaves(flatten(config.model_dump(mode="json"))) == config
