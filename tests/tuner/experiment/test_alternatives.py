"""Which dimensions exist in a trial, what its leaves are, and where in the file they stand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.tiny import METHODS, TRAININGS, space_of
from trainables.errors import BadInput
from tuner.experiment.alternatives import NO_BRANCHES, are_alternatives, are_named, override_leaf, without_leaf
from tuner.experiment.search_experiment import SearchExperiment


@pytest.fixture(scope="module")
def space() -> SearchExperiment:
    return space_of(method=METHODS, training=TRAININGS)


def test_a_dimension_within_an_alternative_exists_where_that_is_chosen(space: SearchExperiment) -> None:
    branches = space.branches
    assert branches.required("method.smile.alpha") == {"method": "smile"}
    assert branches.required("method") == {}
    point = {"method": "smile", "training": "frozen"}
    assert branches.active(space.dimensions, point) == [
        "method",
        "method.smile.gamma_fe",
        "method.smile.alpha",
        "training",
        "training.frozen.learning_rate",
    ]
    assert not branches.is_active("method.smile.alpha", {})


def test_the_leaves_of_a_point_are_those_of_a_trials_configuration(space: SearchExperiment) -> None:
    point = {"method": "smile", "method.smile.alpha": 0.3, "method.smile.gamma_fe": 0.02}
    leaves = space.branches.leaves(point)
    assert leaves.items() >= {"method.name": "smile", "method.alpha": 0.3, "method.gamma_fc": 0.05}.items()
    whole = point | {"training": "frozen", "training.frozen.learning_rate": 0.001}
    config = space.trial_config(whole)
    assert (config.method.name, config.method.alpha, config.method.gamma_fc) == ("smile", 0.3, 0.05)
    assert (config.training.batch_norm, config.training.learning_rate) == ("frozen", 0.001)


def test_a_configuration_needs_every_dimension_that_exists_and_no_other(space: SearchExperiment) -> None:
    with pytest.raises(KeyError, match=r"method\.mixup\.alpha"):
        space.trial_config({"method": "mixup", "training": "moving", "training.moving.learning_rate": 0.01})
    plain = {"method": "l2", "method.mixup.alpha": 0.3, "training": "moving", "training.moving.learning_rate": 0.01}
    assert space.trial_config(plain).method.name == "l2"


def test_a_grid_has_every_combination_that_can_be() -> None:
    assert list(NO_BRANCHES.grid({"a": (1, 2), "b": "xy"})) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert list(NO_BRANCHES.grid({})) == [{}]


def test_a_grid_has_a_key_only_where_its_condition_holds(space: SearchExperiment) -> None:
    values: dict[str, tuple[Any, ...]] = {"method": ("l2", "mixup"), "method.mixup.alpha": (0.1, 0.2)}
    assert list(space.branches.grid(values)) == [
        {"method": "l2"},
        {"method": "mixup", "method.mixup.alpha": 0.1},
        {"method": "mixup", "method.mixup.alpha": 0.2},
    ]


def test_boundary_points_visit_every_alternative_and_have_what_exists_alone(space: SearchExperiment) -> None:
    points = list(space.boundary_points())
    assert {point["method"] for point in points} == {"l2", "mixup", "smile"}
    for point in points:
        assert list(point) == space.branches.active(space.dimensions, point)
    assert {point["method.smile.gamma_fe"] for point in points if point["method"] == "smile"} >= {0.01, 0.1}


def test_places_are_those_of_the_file(space: SearchExperiment) -> None:
    places = {key: space.branches.place_of(key) for key in space.dimensions}
    assert places["method"] == "method.choice"
    assert places["method.smile.alpha"] == "method.choice[2].alpha"
    assert places["training.moving.learning_rate"] == "training.choice[1].learning_rate"
    point = {"method": "smile", "training": "frozen"}
    common = ["training.num_steps"]
    assert space.branches.locate("method.alpha", point, common) == "method.choice[2].alpha"
    assert space.branches.locate("method.unheard_of", point, common) == "method.choice[2].unheard_of"
    assert space.branches.locate("training.num_steps", point, common) == "training.num_steps"
    assert space.branches.locate("data.root", point, common) == "data.root"


def test_a_list_of_values_is_no_alternatives() -> None:
    assert are_alternatives({"choice": [{"label": "a"}]})
    assert not are_alternatives({"choice": ["a", "b"]})
    assert not are_alternatives([{"choice": [{}]}])
    assert are_named(METHODS)
    assert not are_named(TRAININGS)


def test_what_overrides_holds_for_all_alternatives() -> None:
    tree = {"training": {"choice": [{"label": "a", "num_steps": 3}, {"label": "b", "optimizer": "adamw"}]}}
    given = {"training": dict(tree["training"])}
    override_leaf(tree, "training.num_steps", 7)
    assert tree == {"training": {"choice": [{"label": "a"}, {"label": "b", "optimizer": "adamw"}], "num_steps": 7}}
    assert given["training"]["choice"][0] == {"label": "a", "num_steps": 3}


@pytest.mark.parametrize("value", ["l2", {"choice": ["mixup", "l2"]}])
def test_the_name_of_all_alternatives_is_none_of_one(value: object) -> None:
    tree = {"method": METHODS}
    expected = r"method\.name: expected one alternative in the place of all, method=\{name: …\}"
    with pytest.raises(BadInput, match=expected):
        override_leaf(tree, "method.name", value)
    assert tree == {"method": METHODS}


def test_a_leaf_is_taken_out_at_any_depth() -> None:
    nested = {"choice": [{"label": "a", "choice": [{"label": "c", "x": 1}], "y": {"x": 2}}], "x": 3}
    assert without_leaf(nested, "x") == {"choice": [{"label": "a", "choice": [{"label": "c"}], "y": {"x": 2}}], "x": 3}
    assert without_leaf(nested, "y.x")["choice"][0]["y"] == {}
