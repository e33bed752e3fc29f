"""A row whose own search has alternatives of its method or of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuner.comparisons import ROWS, comparison_of, tree_of
from tests.tuner.tiny import METHODS, TRAININGS
from trainables.errors import BadInput
from tuner.comparison.comparison_experiment import check_comparison, load_comparison
from tuner.experiment.search_experiment import dump_experiment

SEARCH = {"trials": 2, "folds": 2}
ROW: dict[str, Any] = {
    "label": "one of three",
    "method": METHODS,
    "training": {"choice": TRAININGS["choice"]},
    "search": SEARCH | {"first_points": [{"method": "smile", "alpha": 0.2}]},
}


def test_is_a_search_over_its_alternatives() -> None:
    comparison = comparison_of(compare__rows=[*ROWS, ROW])
    check_comparison(comparison)
    space = next(arm.space for arm in comparison.arms if arm.is_searched)
    assert list(space.dimensions)[:2] == ["method", "method.mixup.alpha"]
    assert space.search.first_points == ({"method": "smile", "method.smile.alpha": 0.2},)
    assert space.fixed["training"]["num_steps"] == 2  # of the file, which the row's alternatives leave alone
    assert {config.training.learning_rate for config in space.boundary_configs()} >= {3e-4, 3e-2}


def test_its_record_reads_back_to_the_same(tmp_path: Path) -> None:
    comparison = comparison_of(compare__rows=[*ROWS, ROW])
    file = tmp_path / "space.yaml"
    file.write_text(dump_experiment(comparison), encoding="utf-8")
    again = load_comparison(file)
    assert again.as_tree() == comparison.as_tree()
    assert [arm.space.dimensions for arm in again.arms] == [arm.space.dimensions for arm in comparison.arms]
    assert [arm.space.branches for arm in again.arms] == [arm.space.branches for arm in comparison.arms]


@pytest.mark.parametrize(
    ("row", "changes", "place"),
    [
        ({"search": None}, {}, "compare.rows[2].method.choice"),
        ({"training": {}}, {"training": TRAININGS}, "training.choice"),
        ({"backbone": {"choice": [{"name": "timm/resnet18"}]}}, {}, "compare.rows[2].backbone.choice"),
    ],
)
def test_alternatives_stand_where_dimensions_may(row: dict[str, Any], changes: dict[str, Any], place: str) -> None:
    with pytest.raises(BadInput) as bad:
        comparison_of(compare__rows=[*ROWS, ROW | row], **changes)
    assert any(str(problem).startswith(f"tiny.yaml: {place}: expected a value") for problem in bad.value.problems)


def test_a_problem_has_the_line_of_its_alternative(tmp_path: Path) -> None:
    broken = {"choice": [{"name": "l2"}, {"name": "mixup", "alpha": {"uniform": [-1.0, 1.0]}}]}
    file = tmp_path / "x.yaml"
    tree = tree_of(compare__rows=[*ROWS, ROW | {"method": broken, "search": SEARCH}])
    file.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    line = next(i for i, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if "alpha:" in text)
    with pytest.raises(BadInput) as bad:
        load_comparison(file)
    expected = "compare.rows[2].method.choice[1].alpha: expected a number of at least 0.001"
    assert str(bad.value).startswith(f"{file}:{line}: {expected}")


def test_smoke_shrinks_every_alternative(tmp_path: Path) -> None:
    lengths = {"choice": [{"label": "few", "num_steps": 30}, {"label": "many", "num_steps": 300}]}
    row = ROW | {"training": lengths, "method": {"name": "l2"}, "search": SEARCH}
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(tree_of(compare__rows=[*ROWS, row]), allow_unicode=True), encoding="utf-8")
    tiny = load_comparison(file, smoke=True)
    steps = {config.training.num_steps for arm in tiny.arms for config in arm.space.boundary_configs()}
    assert steps == {4}
