"""What a person may leave out of a point: whole paths, and alternatives that its keys imply."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.tiny import METHODS, TRAININGS, space_of
from trainables.errors import BadInput
from tuner.experiment.first_points import by_path


@pytest.mark.parametrize(
    ("point", "renamed"),
    [
        ({"gamma_fe": 1}, {"method.gamma_fe": 1}),
        ({"method.gamma_fe": 1}, {"method.gamma_fe": 1}),
        ({"method.name": "l2", "name": 2}, {"method.name": "l2", "name": 2}),  # two dimensions end in `name`
        ({"unknown": 1}, {"unknown": 1}),
    ],
)
def test_short_names_become_paths(point: dict[str, Any], renamed: dict[str, Any]) -> None:
    assert by_path(point, ["method.gamma_fe", "method.name", "backbone.name"]) == renamed


@pytest.mark.parametrize(
    ("point", "meant"),
    [
        ({"method": "l2"}, {"method": "l2"}),
        ({"method": "smile", "alpha": 0.2}, {"method": "smile", "method.smile.alpha": 0.2}),
        ({"alpha": 0.2, "method": "mixup"}, {"method": "mixup", "method.mixup.alpha": 0.2}),
        ({"gamma_fe": 0.02}, {"method": "smile", "method.smile.gamma_fe": 0.02}),
        (
            {"gamma_fe": 0.02, "alpha": 0.2},
            {"method": "smile", "method.smile.gamma_fe": 0.02, "method.smile.alpha": 0.2},
        ),
        ({"method.mixup.alpha": 0.2}, {"method": "mixup", "method.mixup.alpha": 0.2}),
        ({"method.gamma_fe": 0.02}, {"method": "smile", "method.smile.gamma_fe": 0.02}),
        (
            {"method": "l2", "training": "moving", "learning_rate": 0.01},
            {"method": "l2", "training": "moving", "training.moving.learning_rate": 0.01},
        ),
    ],
)
def test_keys_are_those_of_the_alternative_that_the_point_chooses(point: dict[str, Any], meant: dict[str, Any]) -> None:
    space = space_of(method=METHODS, training=TRAININGS, search__first_points=[point])
    assert space.search.first_points == (meant,)


@pytest.mark.parametrize(
    ("point", "where", "expected"),
    [
        ({"alpha": 0.2}, "alpha", "one of method.mixup.alpha, method.smile.alpha, or the alternative besides"),
        ({"method": "l2", "alpha": 0.2}, "alpha", "no dimension of another alternative than method = l2"),
        ({"method": "l2", "gamma_fe": 0.02}, "gamma_fe", "no dimension of another alternative than method = l2"),
        (
            {"gamma_fe": 0.02, "method.mixup.alpha": 0.2},
            "method.mixup.alpha",
            "no dimension of another alternative than method = smile",
        ),
        ({"method": "bss"}, "method", "a value of choice [l2, mixup, smile]"),
        ({"method": 3}, "method", "a value of choice [l2, mixup, smile]"),
        ({"method": "smile", "alpha": 0.9}, "alpha", "a value of uniform [0.1, 0.5]"),
        ({"method": "smile", "alpha": 0.2, "method.smile.alpha": 0.2}, "method.smile.alpha", "that is given once"),
        ({"gama_fe": 0.02}, "gama_fe", "one of the dimensions method, "),
    ],
)
def test_a_point_that_contradicts_itself_is_refused(point: dict[str, Any], where: str, expected: str) -> None:
    with pytest.raises(BadInput) as bad:
        space_of(method=METHODS, training=TRAININGS, search__first_points=[point])
    (problem,) = bad.value.problems
    assert problem.where == f"search.first_points[0].{where}"
    assert expected in problem.expected
