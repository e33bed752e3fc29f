from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuner.tiny import tree_of
from trainables.errors import BadInput
from tuner.experiment.extends import deep_merge, read_extended
from tuner.experiment.search_experiment import dump_experiment, load_experiment
from tuner.search import main


def write(file: Path, **tree: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return file


def said_of(file: Path, overrides: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """File and key of each problem."""
    with pytest.raises(BadInput) as bad:
        load_experiment(file, overrides)
    return [(problem.file, problem.where) for problem in bad.value.problems]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names in `extends` are relative to the file, not to the working folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.mark.parametrize(
    ("base", "tree", "merged"),
    [
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3, "z": 4}}, {"a": {"x": 1, "y": 3, "z": 4}}),
        ({"a": {"b": {"x": 1}}}, {"a": {"b": {"y": 2}}}, {"a": {"b": {"x": 1, "y": 2}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": {"uniform": [0, 1]}}, {"a": {"log_uniform": [1, 2]}}, {"a": {"log_uniform": [1, 2]}}),
        ({"a": {"uniform": [0, 1]}}, {"a": 0.5}, {"a": 0.5}),
        ({"a": 0.5}, {"a": {"uniform": [0, 1]}}, {"a": {"uniform": [0, 1]}}),
        ({"a": {"x": 1}}, {"a": {"choice": [1]}}, {"a": {"choice": [1]}}),
        ({"a": {"choice": [1]}}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"rule": "folds", "margin": 2}}, {"a": {"rule": "none"}}, {"a": {"rule": "none"}}),
        ({"a": {"rule": "folds", "margin": 2}}, {"a": {"rule": "folds"}}, {"a": {"rule": "folds", "margin": 2}}),
        ({"a": {"rule": "folds", "margin": 2}}, {"a": {"margin": 3}}, {"a": {"rule": "folds", "margin": 3}}),
    ],
)
def test_sections_are_merged_and_all_else_is_replaced(
    base: dict[str, Any], tree: dict[str, Any], merged: dict[str, Any]
) -> None:
    before = yaml.safe_dump(base)
    assert deep_merge(base, tree) == merged
    assert yaml.safe_dump(base) == before


def test_a_chain_whose_names_are_relative_to_each_file(tmp_path: Path) -> None:
    write(tmp_path / "base" / "first.yaml", **tree_of(name="first", training__num_steps=5))
    write(tmp_path / "base" / "second.yaml", extends="first.yaml", training={"num_steps": 6, "batch_size": 4})
    file = write(tmp_path / "own" / "third.yaml", extends="../base/second.yaml", name="third")
    space = load_experiment(file)
    assert space.name == "third"
    assert (space.fixed["training"]["num_steps"], space.fixed["training"]["batch_size"]) == (6, 4)
    assert space.fixed["training"]["learning_rate"] == 0.01


def test_of_several_the_later_one_counts_and_the_file_itself_most(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.yaml", extends="root.yaml", **{name: 1, "both": name, "all": name})
    write(tmp_path / "root.yaml", root=1, all="root")
    file = write(tmp_path / "c.yaml", extends=["a.yaml", "b.yaml"], all="c")
    assert read_extended(file) == {"root": 1, "all": "c", "a": 1, "both": "b", "b": 1}


def test_a_record_has_no_extends(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", **tree_of())
    space = load_experiment(write(tmp_path / "own.yaml", extends="base.yaml", name="own"))
    assert "extends" not in dump_experiment(space)
    assert load_experiment(write(tmp_path / "record.yaml", **space.as_tree())).as_tree() == space.as_tree()


def test_overrides_come_last(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", **tree_of())
    file = write(tmp_path / "own.yaml", extends="base.yaml", training={"num_steps": 7})
    assert load_experiment(file, {"training.num_steps": 8}).fixed["training"]["num_steps"] == 8


class TestBadInput:
    def test_each_problem_names_the_file_that_its_key_stands_in(self, tmp_path: Path) -> None:
        base = write(tmp_path / "base.yaml", **tree_of(training__num_steps=0, training__momentum=2, data__sise_px=3))
        own = write(
            tmp_path / "own.yaml", extends="base.yaml", training={"momentum": 3}, search={"first_points": [{"beta": 1}]}
        )
        assert sorted(said_of(own)) == [
            (str(base), "data.sise_px"),
            (str(base), "training.num_steps"),
            (str(own), "search.first_points[0].beta"),
            (str(own), "training.momentum"),
        ]

    def test_what_stands_nowhere_is_said_of_the_file(self, tmp_path: Path) -> None:
        write(tmp_path / "base.yaml", **tree_of(method=None))
        own = write(tmp_path / "own.yaml", extends="base.yaml")
        assert said_of(own) == [(str(own), "method")]

    def test_what_was_overridden_is_not_said_of_the_base(self, tmp_path: Path) -> None:
        write(tmp_path / "base.yaml", **tree_of())
        own = write(tmp_path / "own.yaml", extends="base.yaml")
        assert said_of(own, {"training.num_steps": 0}) == [("", "--set training.num_steps")]

    def test_syntax_is_said_of_its_file(self, tmp_path: Path) -> None:
        base = tmp_path / "base.yaml"
        base.write_text("a: 1\na: 2\n")
        assert said_of(write(tmp_path / "own.yaml", extends="base.yaml")) == [(str(base), "a")]

    def test_a_file_that_does_not_exist(self, tmp_path: Path) -> None:
        own = write(tmp_path / "own.yaml", extends=["base.yaml", "other.yaml"])
        assert said_of(own) == [(str(own), "extends")] * 2

    @pytest.mark.parametrize("extends", [3, None, {"a": "b"}, [1]])
    def test_what_names_no_file(self, tmp_path: Path, extends: object) -> None:
        own = write(tmp_path / "own.yaml", extends=extends)
        assert said_of(own) == [(str(own), "extends")]

    def test_a_cycle(self, tmp_path: Path) -> None:
        a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
        write(a, extends="b.yaml")
        write(b, extends="a.yaml")
        with pytest.raises(BadInput) as bad:
            load_experiment(a)
        assert (
            str(bad.value) == f"{b}:1: extends: expected files that do not lead back to this one, got {a} → {b} → {a}"
        )
        own = write(tmp_path / "own.yaml", extends="own.yaml")
        assert said_of(own) == [(str(own), "extends")]

    def test_files_below_the_working_folder_are_named_from_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "parts" / "base.yaml", **tree_of(training__num_steps=0))
        write(tmp_path / "own" / "own.yaml", extends="../parts/base.yaml")
        assert said_of(Path("own/own.yaml")) == [("parts/base.yaml", "training.num_steps")]

    def test_the_command_says_so_too(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        base = write(tmp_path / "base.yaml", **tree_of(data={"dataset": "imagefolder", "root": str(tmp_path / "none")}))
        own = write(tmp_path / "own.yaml", extends="base.yaml", name="own")
        assert main(["--space", str(own), "--dry-run"]) == 2
        assert f"error: {base}:4: data.root: expected an existing folder" in capsys.readouterr().err
        assert main(["--space", str(own), "--dry-run", "--set", "data.root=elsewhere"]) == 2
        assert "error: --set data.root: expected an existing folder" in capsys.readouterr().err
