"""Which trainings a plan of recipes has, and the table of their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import benchmarks
from benchmarks.recipe import drawn, table, trainings
from trainables.config import TrialConfig
from trainables.data.images import LabelledImages

PLAN: dict[str, Any] = {
    "draws": 2,
    "data": {"size_px": 32},
    "training": {"num_steps": 5, "learning_rate": 0.01},
    "samples": {name: {"train": 40, "data": {"dataset": "digits"}} for name in ("few", "many")},
    "configurations": {
        "plain": {"method": {"name": "l2"}},
        "once": {"method": {"name": "l2"}, "training": {"learning_rate": 0.1}, "draws": 1, "samples": ["many"]},
    },
}


def test_a_draw_is_finished_for_all_samples_before_the_next() -> None:
    order = [(sample, name, draw) for sample, name, _, draw in trainings(PLAN)]
    assert order == [
        ("few", "plain", 0),
        ("many", "plain", 0),
        ("many", "once", 0),
        ("few", "plain", 1),
        ("many", "plain", 1),
    ]


def test_sections_of_a_configuration_are_laid_over_the_common_ones() -> None:
    configs: dict[str, TrialConfig] = {name: config for _, name, config, _ in trainings(PLAN)}
    assert [(c.data.size_px, c.training.num_steps, c.training.learning_rate) for c in configs.values()] == [
        (32, 5, 0.01),
        (32, 5, 0.1),
    ]


@pytest.mark.parametrize("name", ["recipe", "recipe_short", "recipe_head"])
def test_the_plans_that_are_shipped_are_valid(name: str) -> None:
    plan = yaml.safe_load((Path(benchmarks.__file__).parent / f"{name}.yaml").read_text())
    named = {name for _, name, _, _ in trainings(plan)}
    assert named == set(plan["configurations"])


def test_a_draw_divides_no_group() -> None:
    labels, groups = np.arange(60) % 3, np.arange(60) // 3 % 10
    images = LabelledImages.of(np.zeros((60, 1, 1, 3), dtype=np.uint8), labels, ("a", "b", "c"), groups=groups)
    folds = [drawn(images, 40, draw) for draw in range(3)]
    for fold in folds:
        assert sorted([*fold.train, *fold.validation]) == list(range(60))
        assert not set(groups[fold.train]) & set(groups[fold.validation])
        assert len(fold.validation) == pytest.approx(20, abs=6)
    assert len({tuple(fold.validation) for fold in folds}) == 3


@pytest.mark.parametrize(("diverged", "line"), [(False, "+0.1500 ± 0.0500"), (True, "-0.3500 ± 0.4500")])
def test_differences_are_paired_over_draws(diverged: bool, line: str) -> None:
    scores = [
        _score("base", 0, 0.5),
        _score("base", 1, 0.8),
        _score("other", 0, 0.6),
        _score("other", 1, None if diverged else 1.0),
    ]
    lines = table(scores, against="base")
    (row,) = [each for each in lines if "other" in each]
    assert line in row
    assert ("1 diverged" in row) == diverged


def _score(configuration: str, draw: int, top1: float | None) -> dict[str, Any]:
    nll = None if top1 is None else 1.0
    place = {"sample": "birds", "configuration": configuration, "draw": draw}
    return place | {"top1": top1, "nll": nll, "steps": 5, "cpu_s": 1.0}
