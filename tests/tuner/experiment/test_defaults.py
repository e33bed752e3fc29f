"""Records of spaces with alternatives: every default is written out, and they read back to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiment.test_splitting import MIXERS
from tests.tuner.tiny import METHODS, TRAININGS, space_of
from trainables.errors import BadInput
from trainables.methods.mixup import MixupConfig
from tuner.experiment.search_experiment import dump_experiment, load_experiment

SPACES: dict[str, dict[str, Any]] = {
    "methods": {"method": METHODS},
    "methods and trainings": {"method": METHODS, "training": TRAININGS},
    "nested": {"method": {"choice": [MIXERS, {"name": "l2"}]}},
    "one alternative": {"method": {"choice": [{"name": "l2"}]}},
    "lengths": {"training": {"choice": [{"label": "few", "num_steps": 3}, {"label": "many", "num_epochs": 2}]}},
    "backbones": {"backbone": {"choice": [{"name": "package/efficientnet_lite0"}, {"name": "timm/resnet18"}]}},
    "checkpoints": {
        "backbone": {"choice": [{"label": c, "name": "timm/resnet18", "checkpoint": c} for c in ("a", "b")]}
    },
    "points": {
        "method": METHODS,
        "search__first_points": [{"gamma_fe": 0.02}, {"method": "mixup", "alpha": 0.2}, {"method": "l2"}],
    },
}


@pytest.mark.parametrize("changes", SPACES.values(), ids=SPACES)
def test_what_is_dumped_reads_back_as_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    space = space_of(**changes)
    dumped = tmp_path / "space.yaml"
    dumped.write_text(dump_experiment(space), encoding="utf-8")
    again = load_experiment(dumped)
    assert again.as_tree() == space.as_tree()
    assert list(again.dimensions.items()) == list(space.dimensions.items())
    assert (again.fixed, again.branches, again.search) == (space.fixed, space.branches, space.search)
    assert list(again.boundary_configs()) == list(space.boundary_configs())


def test_a_record_keeps_its_meaning_when_a_default_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(method={"choice": [{"name": "l2"}, {"name": "mixup"}]})
    recorded = space.as_tree()["method"]
    assert recorded["choice"][1] == {"name": "mixup", "alpha": MixupConfig().alpha}


def test_a_default_that_is_the_same_for_all_stands_beside_them() -> None:
    training = space_of(training=TRAININGS).as_tree()["training"]
    assert (training["momentum"], training["num_steps"]) == (0.9, 2)
    assert [set(each) for each in training["choice"]] == [{"label", "batch_norm", "learning_rate"}] * 2
    assert training["choice"][1]["batch_norm"] == "train"


def test_paths_in_alternatives_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = space_of(**SPACES["checkpoints"]).as_tree()["backbone"]["choice"]
    assert [each["checkpoint"] for each in listed] == [str(tmp_path / "a"), str(tmp_path / "b")]


@pytest.mark.parametrize(
    "method",
    [
        {"name": {"choice": ["l2", "mixup"]}},
        {"name": {"choice": ["l2", "mixup"]}, "alpha": 0.2},
        {"name": {"choice": ["mixup", "manifold_mixup"]}},
        {"name": {"choice": ["smile", "mixup"]}, "gamma_fe": {"uniform": [0.1, 0.2]}},
    ],
)
def test_names_of_methods_that_differ_in_their_settings_are_refused_with_the_right_form(method: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as bad:
        space_of(method=method)
    (problem,) = bad.value.problems
    forms = ", ".join(f"{{name: {name}, …}}" for name in method["name"]["choice"])
    assert problem.where == "method.name"
    assert problem.expected == f"alternatives, each with settings of its own: `method: {{choice: [{forms}]}}`"


def test_names_with_the_same_settings_are_a_choice_as_any() -> None:
    space = space_of(backbone__name={"choice": ["package/efficientnet_lite0", "timm/resnet18"]})
    assert "backbone.name" in space.dimensions
    assert not space.branches.alternatives


def test_other_problems_of_other_sections_are_said_too() -> None:
    with pytest.raises(BadInput) as bad:
        space_of(method={"name": {"choice": ["l2", "mixup"]}, "alpha": 0.2}, training__num_steps=-1, search__folds=1)
    assert {problem.where for problem in bad.value.problems} == {"method.name", "training.num_steps", "search.folds"}
