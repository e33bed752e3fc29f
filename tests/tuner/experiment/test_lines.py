"""Every problem of an experiment file says file and line, or the flag that caused it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import BadInput, Problem
from tuner.comparison.comparison_experiment import load_comparison
from tuner.experiment.extends import locate_problems
from tuner.experiment.search_experiment import load_experiment

SEARCH = """\
name: lines
data: {dataset: digits, size_px: 32}
backbone:
  name: package/efficientnet_lite0
method:
  name: smile
  gamma_fe:
    log_uniform: [0.01, 0.1]
  alpha: 0.2
search:
  folds: 2
  first_points:
  - gamma_fe: 0.02
  - {method.gamma_fe: 0.03}
"""

COMPARISON = """\
name: lines
data: {dataset: digits, size_px: 32}
backbone: {name: package/efficientnet_lite0}
training:
  num_steps: 2
compare:
  reference: one
  rows:
  - label: one
    method: {name: l2}
  - label: two
    method:
      name: mixup
      alpha: 0.2
  columns:
  - label: all
    data: {train_images: 20}
"""


def lines_of(
    file: Path,
    text: str,
    overrides: Mapping[str, Any] | None = None,
    flags: Mapping[str, str] | None = None,
    load: Any = load_experiment,
) -> list[str]:
    """Place and key of each problem, with the file's name alone."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as bad:
        load(file, overrides, flags=flags)
    return [str(problem).split(": expected ")[0].replace(f"{file.parent}/", "") for problem in bad.value.problems]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.yaml"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("size_px: 32", "size_px: 0", "x.yaml:2: data.size_px"),
        ("size_px: 32", "sise_px: 32", "x.yaml:2: data.sise_px"),
        ("  name: package/efficientnet_lite0", "  pretrained: true", "x.yaml:3: backbone.name"),
        ("log_uniform: [0.01, 0.1]", "log_uniform: [0.1, 0.01]", "x.yaml:7: method.gamma_fe"),
        ("log_uniform: [0.01, 0.1]", "log_unifrom: [0.01, 0.1]", "x.yaml:7: method.gamma_fe"),
        ("alpha: 0.2", "alpha: -0.2", "x.yaml:9: method.alpha"),
        ("name: smile", "name: smyle", "x.yaml:6: method.name"),
        ("  name: smile\n", "", "x.yaml:5: method.name"),
        ("folds: 2", "racing: {rule: folds, margin: -1}", "x.yaml:11: search.racing.margin"),
        ("folds: 2", "racing: {rule: foldz}", "x.yaml:11: search.racing.rule"),
        ("folds: 2", "max_fold_trainings: 1", "x.yaml:11: search.max_fold_trainings"),
        ("  - gamma_fe: 0.02", "  - gama_fe: 0.02", "x.yaml:13: search.first_points[0].gama_fe"),
        ("method.gamma_fe: 0.03", "method.gamma_fe: 0.3", "x.yaml:14: search.first_points[1].method.gamma_fe"),
        ("  - gamma_fe: 0.02", "  - 3", "x.yaml:13: search.first_points[0]"),
        ("search:", "serach:", "x.yaml:10: serach"),
        ("name: lines", "name: a/b", "x.yaml:1: name"),
        ("name: lines\n", "", "x.yaml: name"),
        ("size_px: 32", "root: ~nobody9/photos", "x.yaml:2: data.root"),
        ("size_px: 32", 'root: "a\\0b"', "x.yaml:2: data.root"),
        ("size_px: 32", "root: " + "x" * 5000, "x.yaml:2: data.root"),
        ("size_px: 32", "root: 2026-02-30", "x.yaml:2: data.root"),
        ("size_px: 32", "size_px: 20000", "x.yaml:2: data.size_px"),
        ("size_px: 32", "size_px: true", "x.yaml:2: data.size_px"),
        ("size_px: 32", "size_px: {choice: [32, 32.0]}", "x.yaml:2: data.size_px"),
        ("size_px: 32", "size_px: {choice: [[1, 2], 3]}", "x.yaml:2: data.size_px"),
        ("size_px: 32", "size_px: {int: [1, 99999999999999999]}", "x.yaml:2: data.size_px"),
        ("  name: package/efficientnet_lite0", "  name: {choice: [[1, 2], 3]}", "x.yaml:4: backbone.name"),
        ("  name: smile", "  name: {choice: [[1, 2], 3]}", "x.yaml:6: method.name"),
        ("alpha: 0.2", "alpha: {uniform: [-1.0e308, 1.0e308]}", "x.yaml:9: method.alpha"),
        ("alpha: 0.2", "alpha: false", "x.yaml:9: method.alpha"),
        ("folds: 2", "trials: true", "x.yaml:11: search.trials"),
        ("folds: 2", "timeout_s: 1.0e300", "x.yaml:11: search.timeout_s"),
        ("search:", "tracking: {registered_model: team/pets}\nsearch:", "x.yaml:10: tracking.registered_model"),
        ("search:", "tracking: {mirror: 'foo://x'}\nsearch:", "x.yaml:10: tracking.mirror"),
        ("search:", "tracking: {directory: ~nobody9/x}\nsearch:", "x.yaml:10: tracking.directory"),
    ],
)
def test_a_search_file(file: Path, old: str, new: str, place: str) -> None:
    assert old in SEARCH
    assert lines_of(file, SEARCH.replace(old, new)) == [place]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("      alpha: 0.2", "      alpha: -1", "x.yaml:14: compare.rows[1].method.alpha"),
        ("      alpha: 0.2", "      alhpa: 1", "x.yaml:14: compare.rows[1].method.alhpa"),
        ("      name: mixup\n", "", "x.yaml:12: compare.rows[1].method.name"),
        ("  - label: two", "  - lable: two", "x.yaml:11: compare.rows[1].lable"),
        ("train_images: 20", "train_images: 0", "x.yaml:17: compare.columns[0].data.train_images"),
        ("num_steps: 2", "num_steps: 0", "x.yaml:5: training.num_steps"),
        ("compare:", "seeds: 3\ncompare:", "x.yaml:6: seeds"),
        ("compare:", "method: {name: l2}\ncompare:", "x.yaml:6: method"),
    ],
)
def test_a_comparison_file(file: Path, old: str, new: str, place: str) -> None:
    assert old in COMPARISON
    assert place in lines_of(file, COMPARISON.replace(old, new), load=load_comparison)


def test_aliases_that_stand_for_thousands_of_values_are_a_few_lines(file: Path) -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 8)}]" for i in range(1, 5)]
    for section in ("data", "method", "search", "training", "tracking"):
        text = "\n".join(
            ["l0: &l0 [x, x]", *levels, SEARCH.replace(f"\n{section}:", f"\n{section}_:"), f"{section}: *l4"]
        )
        file.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput) as bad:
            load_experiment(file)
        said = str(bad.value)
        assert "x.yaml:" in said
        assert len(said.splitlines()) < 30
        assert len(said) < 10_000


def test_problems_are_in_the_order_of_the_file(file: Path) -> None:
    text = SEARCH.replace("folds: 2", "folds: 1").replace("size_px: 32", "size_px: 0").replace("alpha: 0.2", "alpha: x")
    assert lines_of(file, text) == ["x.yaml:2: data.size_px", "x.yaml:9: method.alpha", "x.yaml:11: search.folds"]


def test_the_message_is_whole(file: Path) -> None:
    file.write_text(SEARCH.replace("alpha: 0.2", "alpha: -0.2"), encoding="utf-8")
    with pytest.raises(BadInput) as bad:
        load_experiment(file)
    assert str(bad.value) == f"{file}:9: method.alpha: expected a number of at least 0.001, got -0.2"


class TestExtends:
    def test_the_line_is_that_of_the_definition_that_counts(self, file: Path) -> None:
        file.with_name("base.yaml").write_text(SEARCH.replace("size_px: 32", "size_px: 0"), encoding="utf-8")
        own = "extends: base.yaml\nmethod:\n  alpha: -1\nbackbone: {pretrained: 3}\n"
        assert lines_of(file, own) == [
            "base.yaml:2: data.size_px",
            "x.yaml:3: method.alpha",
            "x.yaml:4: backbone.pretrained",
        ]

    def test_a_list_replaces_the_list_below_it(self, file: Path) -> None:
        file.with_name("base.yaml").write_text(SEARCH, encoding="utf-8")
        own = "extends: base.yaml\n\nsearch:\n  first_points:\n  - alpha: 1\n"
        assert lines_of(file, own) == ["x.yaml:5: search.first_points[0].alpha"]

    def test_a_dimension_replaces_the_value_below_it(self, file: Path) -> None:
        file.with_name("base.yaml").write_text(SEARCH, encoding="utf-8")
        own = "extends: base.yaml\nmethod:\n  gamma_fe: {uniform: [1, 0]}\n"
        assert lines_of(file, own) == ["x.yaml:3: method.gamma_fe"]

    @pytest.mark.parametrize("extends", ["none.yaml", "[none.yaml]", "3", "x.yaml"])
    def test_extends_itself(self, file: Path, extends: str) -> None:
        assert lines_of(file, f"name: x\nextends: {extends}\n") == ["x.yaml:2: extends"]

    @pytest.mark.parametrize(
        ("text", "place"), [("a: 1\nb: 2\na: 3\n", "base.yaml:3: a"), ("a:\n  - [\n", "base.yaml:2")]
    )
    def test_syntax_is_a_problem_of_its_file(self, file: Path, text: str, place: str) -> None:
        file.with_name("base.yaml").write_text(text, encoding="utf-8")
        assert lines_of(file, "extends: base.yaml\n") == [place]


class TestFlags:
    @pytest.mark.parametrize(
        ("overrides", "place"),
        [
            ({"data.size_px": 0}, "--set data.size_px"),
            ({"data.sise_px": 0}, "--set data.sise_px"),
            ({"serach.trials": 0}, "--set serach.trials"),
            ({"method.gamma_fe": {"uniform": [1, 0]}}, "--set method.gamma_fe"),
            ({"search.first_points": [{"alpha": 0.2}]}, "--set search.first_points[0].alpha"),
            ({"search.racing": {"rule": "foldz"}}, "--set search.racing.rule"),
        ],
    )
    def test_an_overridden_leaf_is_a_problem_of_its_flag(
        self, file: Path, overrides: dict[str, Any], place: str
    ) -> None:
        assert lines_of(file, SEARCH, overrides) == [place]

    def test_others_keep_their_lines(self, file: Path) -> None:
        places = lines_of(file, SEARCH.replace("folds: 2", "folds: 1"), {"data.size_px": 0})
        assert places == ["--set data.size_px", "x.yaml:11: search.folds"]

    def test_a_flag_of_its_own_is_named(self, file: Path) -> None:
        assert lines_of(file, SEARCH, {"search.trials": 0}, {"search.trials": "--trials"}) == ["--trials"]

    def test_a_key_that_is_given_twice_is_a_problem_of_the_file(self, file: Path) -> None:
        places = lines_of(file, SEARCH.replace("alpha: 0.2", "alpha: 0.2\n  alpha: 1"), {"method.alpha": 1})
        assert places == ["x.yaml:10: method.alpha"]

    def test_problems_of_later_checks_are_placed_too(self, file: Path) -> None:
        file.write_text(SEARCH, encoding="utf-8")
        problem = Problem("data.root", "an existing folder", "'x'", file=str(file))
        for overridden, said in (((), f"{file}:2: data.root"), (("data.root",), "--set data.root")):
            with pytest.raises(BadInput) as bad, locate_problems(file, overridden):
                raise BadInput([problem])
            assert str(bad.value) == f"{said}: expected an existing folder, got 'x'"
