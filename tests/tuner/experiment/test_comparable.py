"""No dimension changes which examples are trained on or scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuner.tiny import space_of, tree_of
from trainables.data.config import DataConfig
from trainables.errors import BadInput
from tuner.experiment.comparable import VIEW
from tuner.experiment.search_experiment import load_experiment

RANGES: dict[str, Any] = {
    "sampling_seed": {"int": [0, 3]},
    "test_fraction": {"uniform": [0.1, 0.3]},
    "test_images": {"int": [10, 20]},
    "train_images": {"choice": [30, 60]},
    "train_fraction": {"uniform": [0.5, 1.0]},
    "sampling": {"choice": ["stratified", "uniform"]},
    "class_fraction": {"choice": [0.5, 1.0]},
    "group_by": {"choice": [None, 1]},
    "validation": {"choice": ["folds", "folder"]},
    "root": {"choice": ["photos_a", "photos_b"]},
    "dataset": {"choice": ["digits", "imagefolder"]},
    "check_counts": {"choice": [True, False]},
    "download": {"choice": [True, False]},
}


@pytest.mark.parametrize("key", sorted({*DataConfig.model_fields} - {*VIEW}))
def test_such_a_dimension_is_refused_with_its_line(tmp_path: Path, key: str) -> None:
    file = tmp_path / "x.yaml"
    changes = {"data__train_images": None} if key == "train_fraction" else {}
    searched = RANGES.get(key, {"choice": ["a", "b"]})
    file.write_text(yaml.safe_dump(tree_of(**changes, **{f"data__{key}": searched}), sort_keys=False))
    with pytest.raises(BadInput) as bad:
        load_experiment(file)
    problem = next(problem for problem in bad.value.problems if problem.where == f"data.{key}")
    assert "scores on different examples cannot be compared" in problem.expected
    assert problem.got.startswith(next(iter(searched)))
    line = file.read_text().splitlines()[problem.line - 1]
    assert line.strip().startswith(f"{key}:")


def test_alternatives_that_differ_in_one_are_refused(tmp_path: Path) -> None:
    folders = [{"label": name, "root": str(tmp_path / name)} for name in ("one", "two")]
    with pytest.raises(BadInput) as bad:
        space_of(data={"dataset": "imagefolder", "choice": folders})
    (problem,) = bad.value.problems
    assert problem.where == "data.choice[0].root"
    assert problem.got == f"'{tmp_path}/one' in one, '{tmp_path}/two' in two"


def test_a_dimension_within_an_alternative_is_refused() -> None:
    sizes = [{"label": "few", "train_images": {"int": [20, 40]}}, {"label": "any"}]
    with pytest.raises(BadInput) as bad:
        space_of(data={"dataset": "digits", "size_px": 32, "choice": sizes})
    assert [problem.where for problem in bad.value.problems] == ["data.choice[0].train_images"]


def test_what_is_the_same_in_all_alternatives_is_fine() -> None:
    sizes = [{"label": str(px), "size_px": px, "train_images": 40} for px in (32, 48)]
    assert list(space_of(data={"dataset": "digits", "choice": sizes}).dimensions) == ["data", *DIMENSIONS]


DIMENSIONS = ("method.gamma_fe", "method.alpha")


def test_the_view_may_be_searched() -> None:
    space_of(data__size_px={"choice": [32, 48]}, data__flip={"choice": [True, False]}, data__crop={"choice": [True]})
