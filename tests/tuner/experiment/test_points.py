from __future__ import annotations

from tests.tuner.tiny import space_of
from tuner.experiment.dimensions import Choice, Dimension, Integer
from tuner.experiment.points import MAX_COMBINATIONS, boundary_points


def integer(low: int, high: int) -> Integer:
    return Integer.model_validate({"int": [low, high]})


def test_boundary_points_visit_every_bound_once() -> None:
    dimensions: dict[str, Dimension] = {"a": integer(0, 1), "b": integer(2, 3)}
    assert list(boundary_points(dimensions)) == [{"a": 0, "b": 2}, {"a": 1, "b": 2}, {"a": 0, "b": 3}]
    assert list(boundary_points({})) == [{}]


def test_boundary_points_combine_choices_up_to_a_limit() -> None:
    pair: dict[str, Dimension] = {"a": Choice(choice=(0, 1)), "b": Choice(choice=("x", "y"))}
    assert {"a": 1, "b": "y"} in list(boundary_points(pair))
    many: dict[str, Dimension] = {str(i): Choice(choice=(0, 1)) for i in range(20)}
    assert len(list(boundary_points(many))) == 1 + 20 + MAX_COMBINATIONS


def test_boundary_configs_have_the_seed_of_the_search() -> None:
    configs = list(space_of(search__seed=3).boundary_configs())
    assert len(configs) == 5  # two bounds and a point between them of two ranges, the others at their first
    assert {config.seed for config in configs} == {3}


def test_valid_configs_leave_out_what_no_trial_can_have() -> None:
    points = [{"method.gamma_fe": gamma_fe, "method.alpha": 0.5} for gamma_fe in (0.02, -1, 0.03)]
    assert [config.method.gamma_fe for config in space_of().valid_configs(points)] == [0.02, 0.03]
