"""A comparison file is what it says, and what is wrong with it is said of the key that says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.comparisons import COLUMNS, ROWS, SEARCHED, comparison_of, tree_of, write_yaml
from trainables.errors import BadInput, Problem
from tuner.comparison.comparison_experiment import (
    check_comparison,
    load_comparison,
    parse_comparison,
    resolved_comparison,
)
from tuner.comparison.cost import ComparisonCost
from tuner.experiment.repeats import num_repeats
from tuner.experiment.search_experiment import dump_experiment
from tuner.record.create import check_same_trials, latest_run, new_run

SHIPPED = sorted((Path(__file__).parents[3] / "search_spaces" / "compare").glob("*.yaml"))


def problems_of(**changes: Any) -> dict[str, Problem]:
    with pytest.raises(BadInput) as bad:
        check_comparison(comparison_of(**changes))
    assert all(problem.file == "tiny.yaml" for problem in bad.value.problems)
    return {problem.where: problem for problem in bad.value.problems}


def rows_with(**row: Any) -> list[dict[str, Any]]:
    return [*ROWS, {"label": "new", "method": {"name": "mixup"}, **row}]


def test_every_row_meets_every_column() -> None:
    comparison = comparison_of(training__learning_rate=0.02)
    assert [(arm.row, arm.column) for arm in comparison.arms] == [
        ("L²", "20"),
        ("SMILE", "20"),
        ("L²", "30"),
        ("SMILE", "30"),
    ]
    configs = [arm.space.trial_config({}) for arm in comparison.arms]
    assert [(config.method.name, config.data.train_images) for config in configs] == [
        ("l2", 20),
        ("smile", 20),
        ("l2", 30),
        ("smile", 30),
    ]
    assert {config.training.learning_rate for config in configs} == {0.02}
    assert (comparison.rows, comparison.columns, comparison.num_cells) == (("L²", "SMILE"), ("20", "30"), 8)


def test_sample_folds_and_seeds_are_the_same_for_every_row() -> None:
    arms = comparison_of(search__seed=7).arms
    configs = [arm.space.trial_config({}) for arm in arms if arm.column == "20"]
    assert configs[0].data == configs[1].data
    assert {config.seed for config in configs} == {7}


def test_a_row_overrides_the_column_and_the_column_the_file() -> None:
    columns = [{"label": "20", "data": {"train_images": 20}, "training": {"num_steps": 5, "batch_size": 4}}]
    rows = rows_with(training={"num_steps": 9})
    arms = comparison_of(compare__rows=rows, compare__columns=columns).arms
    training = {arm.row: arm.space.trial_config({}).training for arm in arms}
    assert [training[row].num_steps for row in ("L²", "new")] == [5, 9]
    assert {t.batch_size for t in training.values()} == {4}


def test_a_row_may_be_given_more_images() -> None:
    rows = rows_with(data={"train_images": 50})
    arm = next(arm for arm in comparison_of(compare__rows=rows).arms if arm.row == "new")
    assert (arm.space.trial_config({}).data.train_images, arm.column_data.train_images) == (50, 20)


def test_a_searched_row_is_a_search_of_its_own_in_each_column() -> None:
    comparison = comparison_of(compare__rows=[*ROWS, SEARCHED], search__seed=3, search__sampler="random")
    arms = [arm for arm in comparison.arms if arm.is_searched]
    assert [arm.row for arm in arms] == ["searched", "searched"]
    assert list(arms[0].space.dimensions) == ["method.alpha"]
    settings = arms[0].space.search
    assert (settings.trials, settings.folds, settings.seed, settings.sampler) == (2, 2, 3, "random")


def test_all_rows_share_a_search_that_a_row_may_do_without() -> None:
    shared = {"training": {"learning_rate": {"choice": [0.01, 0.1]}}, "search": {"trials": 2, "folds": 2}}
    fixed = {"label": "fixed", "method": {"name": "bss"}, "training": {"learning_rate": 0.03}, "search": None}
    comparison = comparison_of(compare__all_rows=shared, compare__rows=[*ROWS, fixed])
    searched = {arm.row: [*arm.space.dimensions] for arm in comparison.arms}
    assert searched == {"L²": ["training.learning_rate"], "SMILE": ["training.learning_rate"], "fixed": []}
    assert {arm.space.search.trials for arm in comparison.arms if arm.is_searched} == {2}
    again = parse_comparison(comparison.as_tree())
    assert [arm.space.dimensions for arm in again.arms] == [arm.space.dimensions for arm in comparison.arms]
    found = problems_of(compare__all_rows={"trainings": {}})["compare.all_rows.trainings"]
    assert "unknown key" in found.got


def test_a_searched_arm_is_dealt_as_often_as_its_own_images_ask_for() -> None:
    rows = [*ROWS, {**SEARCHED, "search": {"folds": 2, "repeats": "auto"}}]
    columns = [{"label": "few", "data": {"train_images": 40}}, {"label": "more", "data": {"train_images": 400}}]
    comparison = comparison_of(compare__rows=rows, compare__columns=columns)
    plans = check_comparison(comparison)
    arms = resolved_comparison(comparison, plans).arms
    assert {arm.column: arm.space.search.repeats for arm in arms if arm.is_searched} == {
        "few": num_repeats(40),
        "more": num_repeats(400),
    }
    assert [plan.space for plan in plans] == [arm.space for arm in arms]


def test_minutes_are_refused_where_the_searches_are_compared() -> None:
    rows = [*ROWS, {**SEARCHED, "search": {**SEARCHED["search"], "minutes": 5}}]
    for comparison, where in (
        (comparison_of(compare__rows=[*ROWS, SEARCHED], search__minutes=5), "search.minutes"),
        (comparison_of(compare__rows=rows), "compare.rows[2].search.minutes"),
    ):
        with pytest.raises(BadInput) as bad:
            check_comparison(comparison)
        assert where in {problem.where for problem in bad.value.problems}


def test_without_columns_there_is_one() -> None:
    tree = tree_of()
    del tree["compare"]["columns"]
    assert parse_comparison(tree).columns == ("top-1",)


@pytest.mark.parametrize("reference", ["SMILE", "smile"])
def test_the_reference_goes_by_its_label_or_by_its_method(reference: str) -> None:
    assert comparison_of(compare__reference=reference).reference == "SMILE"


class TestRecord:
    def test_reads_back_to_the_same(self, tmp_path: Path) -> None:
        unraced = {**SEARCHED, "label": "unraced", "search": {**SEARCHED["search"], "racing": {"rule": "none"}}}
        comparison = comparison_of(compare__rows=[*ROWS, SEARCHED, unraced], tracking__uri="https://me:secret@host")
        file = tmp_path / "space.yaml"
        file.write_text(dump_experiment(comparison))
        assert "secret" not in file.read_text()
        again = load_comparison(file)
        assert again.as_tree() == comparison.as_tree()
        assert [arm.space.fixed for arm in again.arms] == [arm.space.fixed for arm in comparison.arms]

    def test_has_the_defaults_and_whole_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        columns = [{"label": "other", "data": {"root": "photos"}}]
        data = {"dataset": "imagefolder", "root": "pictures", "size_px": 32}
        tree = comparison_of(data=data, compare__columns=columns).as_tree()
        assert tree["data"]["root"] == str(tmp_path / "pictures")
        assert tree["compare"]["columns"][0]["data"]["root"] == str(tmp_path / "photos")
        assert tree["compare"]["rows"][1]["method"]["gamma_fe"] == 0.01
        assert tree["training"]["momentum"] == 0.9

    def test_only_more_seeds_may_be_asked_of_it(self, tmp_path: Path) -> None:
        directory = new_run(comparison_of(tracking__directory=str(tmp_path)))
        directory.journal.touch()
        assert latest_run(comparison_of(tracking__directory=str(tmp_path), compare__seeds=5)) == directory
        with pytest.raises(BadInput, match=r"compare\.rows: "):
            check_same_trials(comparison_of(tracking__directory=str(tmp_path), compare__rows=rows_with()), directory)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "where", "words"),
        [
            ({"training": [1]}, "training", "keys and values"),
            ({"trainig": {}}, "trainig", "did you mean 'training'?"),
            ({"method": {"name": "l2"}}, "method", "in compare.rows"),
            ({"compare": None}, "compare", "a section of keys and values"),
            ({"name": "a/b"}, "name", "a name of letters"),
            ({"training__num_stps": 3}, "training.num_stps", "did you mean 'num_steps'?"),
            ({"compare__seeds": 0}, "compare.seeds", "a number above 0"),
            ({"compare__reference": "l3"}, "compare", "a row's label ('L²', 'SMILE'), or"),
            ({"compare__measures": ["interpolaton"]}, "compare", "measures of interpolation"),
            ({"compare__rows": []}, "compare.rows", "at least 1"),
            ({"compare__rows": [ROWS[0], ROWS[0]]}, "compare", "rows with different labels"),
            ({"compare__rows": rows_with(lable=1)}, "compare.rows[2].lable", "did you mean 'label'?"),
            (
                {"compare__rows": rows_with(method={"name": "mixup", "alhpa": 1})},
                "compare.rows[2].method.alhpa",
                "alpha",
            ),
            (
                {"compare__rows": rows_with(method={"name": "mixpu"})},
                "compare.rows[2].method.name",
                "did you mean 'mixup'",
            ),
            (
                {"compare__rows": rows_with(training={"num_steps": 0})},
                "compare.rows[2].training.num_steps",
                "a number above 0",
            ),
            ({"compare__rows": rows_with(data={"size_px": 8})}, "compare.rows[2].data.size_px", "another column"),
            ({"compare__rows": rows_with(search={"trials": 2})}, "compare.rows[2].search", "something to search"),
            (
                {"compare__rows": rows_with(method=SEARCHED["method"])},
                "compare.rows[2].method.alpha",
                "a row with a `search`",
            ),
            (
                {"compare__rows": [*ROWS, {**SEARCHED, "search": {"trils": 2}}]},
                "compare.rows[2].search.trils",
                "trials",
            ),
            ({"compare__rows": [*ROWS, {**SEARCHED, "search": {"seed": 2}}]}, "compare.rows[2].search.seed", "paired"),
            (
                {"compare__columns": [{"label": "a", "data": {"train_images": 9999}}]},
                "compare.columns[0].data.train_images",
                "at most",
            ),
            (
                {"compare__columns": [{"label": "a", "data": {"train_fraction": 2}}]},
                "compare.columns[0].data.train_fraction",
                "a number of at most 1",
            ),
            ({"backbone__name": "package/none"}, "backbone.name", "package/none"),
            ({"compare__measures": ["interpolation"], "data__test_images": 1}, "compare.measures", "at least 2"),
        ],
    )
    def test_is_said_where_it_stands(self, changes: dict[str, Any], where: str, words: str) -> None:
        found = problems_of(**changes)
        assert where in found
        assert words in f"{found[where].expected} {found[where].got}"

    def test_everything_at_once_and_each_thing_once(self) -> None:
        rows = rows_with(method={"name": "mixup", "alpha": -1})
        found = problems_of(data__sise_px=8, compare__rows=rows)
        assert sorted(found) == ["compare.rows[2].method.alpha", "data.sise_px"]

    def test_a_dimension_outside_the_rows(self) -> None:
        found = problems_of(compare__rows=[*ROWS, SEARCHED], training__learning_rate={"uniform": [0.01, 0.1]})
        assert "training.learning_rate" in found

    def test_fixed_rows_need_no_folds(self) -> None:
        one_a_class = [{"label": "10", "data": {"train_images": 10}}]
        assert check_comparison(comparison_of(compare__columns=one_a_class))
        with pytest.raises(BadInput, match="at least 2 training images of every class"):
            check_comparison(comparison_of(compare__columns=one_a_class, compare__rows=[*ROWS, SEARCHED]))


def test_the_budget_counts_trainings_and_steps() -> None:
    rows = [*ROWS, {**SEARCHED, "training": {"num_steps": 5}}]
    comparison = comparison_of(compare__rows=rows, compare__seeds=3)
    budget = ComparisonCost.of(comparison, check_comparison(comparison))
    assert budget.cell_steps == 3 * 2 * (2 + 2 + 5)
    assert (budget.num_folds, budget.fold_steps) == (2 * 2 * 2, 2 * 2 * 2 * 5)
    assert str(budget) == "3 rows × 2 columns × 3 seeds = 18 trainings, 54 steps; searches of 8 folds, 40 steps"


def test_smoke_is_the_same_path_and_tiny(tmp_path: Path) -> None:
    rows = [*ROWS, {**SEARCHED, "training": {"num_steps": 500}, "search": {"trials": 50}}]
    columns = [*COLUMNS, {"label": "all", "data": {"train_fraction": 1.0}}]
    file = write_yaml(tmp_path, compare__rows=rows, compare__columns=columns, compare__seeds=9)
    tiny = load_comparison(file, smoke=True)
    assert (tiny.name, tiny.rows, tiny.columns) == ("tiny-smoke", ("L²", "SMILE", "searched"), ("20", "30"))
    assert tiny.compare.seeds == 2
    plans = check_comparison(tiny)
    assert {(plan.num_steps, plan.data.num_train) for plan in plans} == {(4, 20)}
    assert ComparisonCost.of(tiny, plans).num_folds == 8


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_what_is_shipped_is_right(file: Path) -> None:
    comparison = load_comparison(file)
    assert comparison.name.startswith("compare-")
    assert comparison.reference in comparison.rows
