"""Alternatives of a section as they are written, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuner.tiny import METHODS, TRAININGS, space_of, tree_of
from trainables.errors import BadInput
from tuner.experiment.dimensions import Choice
from tuner.experiment.search_experiment import load_experiment
from tuner.experiment.splitting import section_at_first, split_sections

MIXERS = {"label": "mixers", "alpha": {"uniform": [0.1, 0.3]}, "choice": [{"name": "mixup"}, {"name": "cutmix"}]}


def test_alternatives_are_a_choice_of_labels_and_their_dimensions_have_conditions() -> None:
    split = split_sections({"method": METHODS, "training": TRAININGS}, ["method", "training"])
    assert split.dimensions["method"] == Choice(choice=("l2", "mixup", "smile"))
    assert split.dimensions["training"] == Choice(choice=("frozen", "moving"))
    assert split.branches.conditions["training.moving.learning_rate"] == ("training", "moving")
    assert split.fixed == {"method": {}, "training": {"num_steps": 2, "batch_size": 8}}
    assert split.leaves({"training": "frozen"}) == {
        "training.num_steps": 2,
        "training.batch_size": 8,
        "training.batch_norm": "frozen",
    }


def test_alternatives_nest() -> None:
    space = space_of(method={"choice": [MIXERS, {"name": "l2"}]})
    assert list(space.dimensions) == ["method", "method.mixers.alpha", "method.mixers"]
    assert space.branches.required("method.mixers") == {"method": "mixers"}
    config = space.trial_config({"method": "mixers", "method.mixers": "cutmix", "method.mixers.alpha": 0.2})
    assert (config.method.name, config.method.alpha) == ("cutmix", 0.2)
    assert space.trial_config({"method": "l2"}).method.name == "l2"
    assert {config.method.name for config in space.boundary_configs()} == {"mixup", "cutmix", "l2"}


def test_sections_of_every_kind_have_alternatives() -> None:
    space = space_of(
        data={
            "dataset": "digits",
            "train_images": 30,
            "test_images": 20,
            "choice": [{"label": "small", "size_px": 32}, {"label": "large", "size_px": 48, "flip": False}],
        },
        backbone={"choice": [{"name": "package/efficientnet_lite0"}, {"name": "torchvision/resnet18"}]},
    )
    assert space.dimensions["backbone"] == Choice(choice=("package/efficientnet_lite0", "torchvision/resnet18"))
    point = {"data": "large", "backbone": "torchvision/resnet18", "method.gamma_fe": 0.02, "method.alpha": 0.2}
    config = space.trial_config(point)
    assert (config.data.size_px, config.data.flip, config.backbone.name) == (48, False, "torchvision/resnet18")


def test_a_section_at_its_first_values() -> None:
    tree = tree_of(data={"dataset": "digits", "choice": [{"label": "a", "size_px": 32}, {"label": "b"}]})
    assert section_at_first(tree, "data") == {"dataset": "digits", "size_px": 32}
    assert section_at_first(tree_of(), "method")["gamma_fe"] == 0.01
    assert section_at_first({}, "data") == {}


SEARCH = """\
name: lines
data: {dataset: digits, size_px: 32}
backbone: {name: package/efficientnet_lite0}
method:
  choice:
  - name: l2
  - name: mixup
    alpha: {uniform: [0.1, 1.0]}
training:
  num_steps: 2
  choice:
  - label: frozen
    batch_norm: frozen
  - label: moving
    learning_rate: {log_uniform: [0.001, 0.1]}
search:
  folds: 2
  first_points:
  - {method: mixup, alpha: 0.2}
"""


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("uniform: [0.1, 1.0]", "uniform: [1.0, 0.1]", "8: method.choice[1].alpha: expected `uniform: [low, high]`"),
        ("uniform: [0.1, 1.0]", "unifrom: [0.1, 1.0]", "8: method.choice[1].alpha: expected a dimension of kind"),
        ("uniform: [0.1, 1.0]", "uniform: [-1.0, 1.0]", "8: method.choice[1].alpha: expected a number of at least"),
        ("    alpha: {", "    alhpa: {", "8: method.choice[1].alhpa: expected one of the keys name, alpha"),
        ("- name: l2", "- name: l3", "6: method.choice[0].name: expected one of l2, "),
        ("- name: l2", "- label: plain", "6: method.choice[0].name: expected one of l2, "),
        ("- name: l2", "- l2", "5: method.choice: expected alternatives, each with keys of its own: `method: {choice"),
        (
            "- name: l2",
            "- name: mixup",
            "5: method.choice: expected alternatives whose `label`, or else",
        ),
        ("- name: l2", "- {name: l2, label: 3}", "6: method.choice[0].label: expected a label of letters"),
        ("- name: l2", "- {name: l2, label: a|b}", "6: method.choice[0].label: expected a label of letters"),
        (
            "- name: l2",
            "- {name: l2, label: alpha}",
            "6: method.choice[0]: expected a label that is no key",
        ),
        ("- label: frozen\n    b", "- b", "12: training.choice[0]: expected a `label`, or else a fixed `name`"),
        ("batch_norm: frozen", "num_steps: 3", "13: training.choice[0].num_steps: expected a key that is given either"),
        ("num_steps: 2", "num_steps: -2", "10: training.num_steps: expected a number"),
        ("alpha: 0.2", "alpha: 2", "19: search.first_points[0].alpha: expected a value of uniform [0.1, 1.0]"),
        ("mixup, alpha", "l2, alpha", "19: search.first_points[0].alpha: expected no dimension of another alternative"),
    ],
)
def test_every_problem_has_the_line_of_its_alternative(tmp_path: Path, old: str, new: str, place: str) -> None:
    file = tmp_path / "x.yaml"
    assert old in SEARCH
    file.write_text(SEARCH.replace(old, new), encoding="utf-8")
    with pytest.raises(BadInput) as bad:
        load_experiment(file)
    assert [str(problem)[: len(f"{file}:{place}")] for problem in bad.value.problems][:1] == [f"{file}:{place}"]


@pytest.mark.parametrize("choices", [["l2", "mixup"], [], "l2", [{"name": "l2"}, "mixup"]])
def test_the_right_form_is_shown(choices: Any) -> None:
    with pytest.raises(BadInput, match=r"`method: \{choice: \[\{name: l2\}, \{name: mixup, alpha: 0\.2\}\]\}`"):
        space_of(method={"choice": choices})


class TestOverOthers:
    """Files over files, and flags over files."""

    def load(self, folder: Path, base: dict[str, Any], own: dict[str, Any], **overrides: Any) -> Any:
        (folder / "base.yaml").write_text(yaml.safe_dump(tree_of(**base)), encoding="utf-8")
        (folder / "own.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", **own}), encoding="utf-8")
        return load_experiment(folder / "own.yaml", {key.replace("__", "."): v for key, v in overrides.items()})

    def test_alternatives_by_name_replace_the_section(self, tmp_path: Path) -> None:
        assert next(iter(self.load(tmp_path, {}, {"method": METHODS}).dimensions)) == "method"
        assert not self.load(tmp_path, {"method": METHODS}, {"method": {"name": "l2"}}).dimensions

    def test_what_holds_for_all_of_them_is_merged(self, tmp_path: Path) -> None:
        mixers = {"choice": [{"name": "mixup"}, {"name": "cutmix"}], "alpha": 0.3}
        space = self.load(tmp_path, {"method": mixers}, {"method": {"alpha": 0.4}})
        assert {config.method.alpha for config in space.boundary_configs()} == {0.4}

    def test_alternatives_by_label_keep_what_is_beside_them(self, tmp_path: Path) -> None:
        own = {"training": {"choice": TRAININGS["choice"]}}
        space = self.load(tmp_path, {}, own)
        assert space.fixed["training"]["num_steps"] == 2
        assert "learning_rate" not in space.fixed["training"]  # which the base has, and each alternative over it
        again = self.load(tmp_path, {"training": TRAININGS}, {"training": {"num_steps": 5}})
        assert (again.fixed["training"]["num_steps"], list(again.dimensions)[-1]) == (
            5,
            "training.moving.learning_rate",
        )

    def test_a_flag_counts_for_all_alternatives(self, tmp_path: Path) -> None:
        space = self.load(tmp_path, {"training": TRAININGS}, {}, training__learning_rate=0.02)
        assert {config.training.learning_rate for config in space.boundary_configs()} == {0.02}
