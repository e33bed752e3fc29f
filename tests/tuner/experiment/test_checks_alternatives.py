"""Alternatives are checked with their own data, backbone and method, and problems are said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuner.tiny import METHODS, TRAININGS, space_of, tree_of, write_photos
from trainables.errors import BadInput
from tuner.experiment.checks import check_experiment, load_images
from tuner.experiment.extends import locate_problems
from tuner.experiment.search_experiment import load_experiment
from tuner.experiment.smoke import smoke_overrides


def lines_of(folder: Path, **changes: Any) -> list[str]:
    file = folder / "x.yaml"
    file.write_text(yaml.safe_dump(tree_of(**changes), sort_keys=False), encoding="utf-8")
    with pytest.raises(BadInput) as bad, locate_problems(file):
        check_experiment(load_experiment(file))
    assert all(problem.line for problem in bad.value.problems)
    return [problem.where for problem in bad.value.problems]


def test_a_good_one_is_planned_as_any() -> None:
    plan = check_experiment(space_of(method=METHODS, training=TRAININGS))
    assert (plan.num_trials, plan.num_folds, plan.num_steps) == (6, 2, 2)


def test_a_backbone_that_is_none_is_said_of_its_alternative(tmp_path: Path) -> None:
    backbones = {"choice": [{"name": "package/efficientnet_lite0"}, {"name": "timm/resnet81"}]}
    assert lines_of(tmp_path, backbone=backbones) == ["backbone.choice[1].name"]


def test_a_method_whose_needs_a_backbone_lacks_is_said_of_its_alternative(tmp_path: Path) -> None:
    methods = {"choice": [{"name": "l2"}, {"name": "stoch_norm"}]}
    where = lines_of(tmp_path, method=methods, backbone={"name": "timm/vit_tiny_patch16_224", "pretrained": False})
    assert "method.choice[1].name" in where


def test_images_of_every_alternative_are_decoded(tmp_path: Path) -> None:
    write_photos(tmp_path, 40, train=6, test=2)
    sizes = [{"label": "small", "size_px": 32}, {"label": "large", "size_px": 48}]
    space = space_of(data={"dataset": "imagefolder", "root": str(tmp_path), "choice": sizes})
    assert len(load_images(space)) == 2


def test_a_range_over_what_is_decoded_is_refused_within_an_alternative(tmp_path: Path) -> None:
    sizes = [{"label": "small", "size_px": 32}, {"label": "any", "size_px": {"int": [32, 64]}}]
    assert lines_of(tmp_path, data={"dataset": "digits", "choice": sizes}) == ["data.choice[1].size_px"]


def test_smoke_shrinks_every_alternative(tmp_path: Path) -> None:
    training = {
        "choice": [
            {"label": "few", "num_steps": 30},
            {"label": "many", "num_steps": {"int": [100, 300]}, "learning_rate": {"log_uniform": [0.001, 0.1]}},
        ]
    }
    points = [{"num_steps": 200, "learning_rate": 0.01}, {"training": "few"}]
    file = tmp_path / "x.yaml"
    tree = tree_of(method=METHODS, training=training, search__first_points=points)
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    space = load_experiment(file)
    tiny = load_experiment(file, smoke_overrides(space))
    assert {config.training.num_steps for config in tiny.boundary_configs()} == {4}
    assert tiny.search.first_points == (
        {"training": "many", "training.many.learning_rate": 0.01},
        {"training": "few"},
    )
