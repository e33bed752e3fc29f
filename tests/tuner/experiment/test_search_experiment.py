from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.tuner.tiny import space_of, tree_of, write_yaml
from trainables.errors import BadInput, Problem
from tuner.experiment.search_experiment import dump_experiment, load_experiment, parse_experiment
from tuner.experiment.tree import flatten, set_leaf, short_names

SHIPPED = sorted((Path(__file__).parents[3] / "search_spaces").glob("*.yaml"))


def problems_of(**changes: Any) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as bad:
        parse_experiment(tree_of(**changes))
    return bad.value.problems


class TestReading:
    def test_splits_what_is_fixed_from_what_is_searched(self) -> None:
        space = parse_experiment(tree_of())
        assert list(space.dimensions) == ["method.gamma_fe", "method.alpha"]
        assert space.fixed["method"]["name"] == "smile"
        assert not {"gamma_fe", "alpha"} & space.fixed["method"].keys()

    def test_writes_out_every_default(self) -> None:
        fixed = parse_experiment(tree_of()).fixed
        assert fixed["training"]["momentum"] == 0.9
        assert fixed["method"]["gamma_fc"] == 0.1

    def test_paths_become_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        space = parse_experiment(tree_of(data={"dataset": "imagefolder", "root": "photos"}))
        assert space.fixed["data"]["root"] == str(tmp_path / "photos")

    def test_a_configuration_has_the_seed_of_the_search(self) -> None:
        space = parse_experiment(tree_of(search__seed=5))
        config = space.trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
        assert (config.seed, config.method.gamma_fe, config.method.alpha) == (5, 0.02, 0.5)
        with pytest.raises(ValidationError, match="gamma_fe"):
            space.trial_config({"method.gamma_fe": -1, "method.alpha": 0.5})

    def test_a_configuration_takes_no_short_names(self) -> None:
        with pytest.raises(KeyError, match=r"method\.gamma_fe"):
            parse_experiment(tree_of()).trial_config({"gamma_fe": 0.02, "alpha": 0.5})

    def test_first_points_become_dotted_paths(self) -> None:
        points = [{"gamma_fe": 0.02}, {"method.alpha": 0.3, "gamma_fe": 0.04}]
        search = parse_experiment(tree_of(search__first_points=points)).search
        assert search.first_points == ({"method.gamma_fe": 0.02}, {"method.alpha": 0.3, "method.gamma_fe": 0.04})

    def test_dimensions_in_words(self) -> None:
        assert parse_experiment(tree_of()).dimension_words == {
            "method.gamma_fe": "log_uniform [0.01, 0.1]",
            "method.alpha": "uniform [0.1, 1.0]",
        }

    def test_any_section_of_a_trial_can_be_searched(self) -> None:
        space = parse_experiment(
            tree_of(
                data__crop={"choice": [True, False]},
                backbone__name={"choice": ["package/efficientnet_lite0", "torchvision/resnet18"]},
                training__num_steps={"int": [1, 4]},
                training__learning_rate={"log_uniform": [0.001, 0.1]},
            )
        )
        assert set(space.short_names.values()) >= {"crop", "name", "num_steps", "learning_rate"}

    def test_the_frozen_experiment_refuses_changes(self) -> None:
        space = parse_experiment(tree_of())
        with pytest.raises(AttributeError):
            space.name = "other"  # type: ignore[misc]
        with pytest.raises(ValidationError):
            space.search.trials = 3  # type: ignore[misc]

    @pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
    def test_every_packaged_space_is_valid(self, file: Path) -> None:
        assert load_experiment(file).dimensions

    def test_the_registered_model_goes_by_the_experiment_unless_told(self) -> None:
        assert parse_experiment(tree_of()).model_name == "tiny"
        assert parse_experiment(tree_of(tracking__registered_model="fruit")).model_name == "fruit"


class TestNames:
    def test_are_short_where_that_is_unambiguous(self) -> None:
        assert short_names(["method.alpha", "training.momentum"]) == {
            "method.alpha": "alpha",
            "training.momentum": "momentum",
        }
        assert short_names(["method.name", "backbone.name"]) == {
            "method.name": "method.name",
            "backbone.name": "backbone.name",
        }

    def test_a_range_over_a_leaf_that_takes_integers_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"training\.batch_size: expected a whole number"):
            space_of(training__batch_size={"log_uniform": [8, 64]})

    def test_choices_that_do_not_go_together_are_refused(self) -> None:
        with pytest.raises(BadInput, match=r"expected momentum > 0 with nesterov: true"):
            space_of(training__optimizer={"choice": ["adamw", "sgd"]}, training__momentum={"choice": [0.9, 0.0]})

    def test_flatten_and_set_leaf_undo_each_other(self) -> None:
        tree = tree_of()
        rebuilt: dict[str, Any] = {}
        for path, value in flatten(tree).items():
            set_leaf(rebuilt, path, value)
        assert rebuilt == tree

    def test_set_leaf_leaves_other_trees_alone(self) -> None:
        tree = {"a": {"b": 1}}
        copy = dict(tree)
        set_leaf(copy, "a.b", 2)
        assert (tree, copy) == ({"a": {"b": 1}}, {"a": {"b": 2}})


class TestRoundTrip:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"search__first_points": [{"gamma_fe": 0.02}, {"method.alpha": 0.3}]},
            {"data": {"dataset": "imagefolder", "root": "somewhere", "train_fraction": 0.5}},
            {"training__num_steps": {"int": [1, 5]}, "training__optimizer": {"choice": ["sgd", "adamw"]}},
            {"resources": {"cpus": 2, "gpus": 0.25}, "tracking": {"uri": "sqlite:///x.db"}, "retrain": {"seeds": 0}},
        ],
    )
    def test_what_is_dumped_reads_back_as_equal(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        space = parse_experiment(tree_of(**changes))
        dumped = tmp_path / "space.yaml"
        dumped.write_text(dump_experiment(space))
        again = load_experiment(dumped)
        assert again.as_tree() == space.as_tree()
        assert list(again.dimensions.items()) == list(space.dimensions.items())
        assert (again.fixed, again.search) == (space.fixed, space.search)

    @pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
    def test_of_what_we_ship(self, file: Path, tmp_path: Path) -> None:
        dumped = tmp_path / "space.yaml"
        dumped.write_text(dump_experiment(load_experiment(file)))
        assert load_experiment(dumped).as_tree() == load_experiment(file).as_tree()


class TestOverrides:
    def test_replace_leaves_and_dimensions(self, tmp_path: Path) -> None:
        file = write_yaml(tmp_path)
        space = load_experiment(
            file, {"method.alpha": 0.3, "training.momentum": {"uniform": [0.5, 0.9]}, "name": "other"}
        )
        assert space.name == "other"
        assert space.fixed["method"]["alpha"] == 0.3
        assert list(space.dimensions) == ["method.gamma_fe", "training.momentum"]

    def test_make_sections_that_were_left_out(self, tmp_path: Path) -> None:
        assert load_experiment(write_yaml(tmp_path), {"retrain.seeds": 1}).retrain.seeds == 1

    def test_an_unknown_one_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"^--set training\.nun_steps: .*did you mean 'num_steps'"):
            load_experiment(write_yaml(tmp_path), {"training.nun_steps": 1})


class TestBadInput:
    def test_everything_is_said_at_once_and_names_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "bad.yaml"
        tree = tree_of(
            name="../escape",
            serach={"trials": 3},
            data__train_image=3,
            method__gamma_fe={"log_uniform": [0, 0.1]},
            method__gamma_fc={"unifrom": [0, 1]},
            method__alpha={"uniform": [1.0, 0.1]},
            method__ema_decay={"uniform": [0.9, 1.5]},
            training__num_steps=0,
            training__momentum={"int": [0.1, 3]},
            search__folds=1,
            search__sampler="grid",
            search__first_points=[{"gamma": 0.1}],
            resources__gpus=1.5,
            retrain__seeds=-1,
        )
        file.write_text(yaml.safe_dump(tree))
        with pytest.raises(BadInput) as bad:
            load_experiment(file)
        wrong = {problem.where for problem in bad.value.problems}
        assert wrong >= {
            "name",
            "serach",
            "data.train_image",
            "method.gamma_fe",
            "method.gamma_fc",
            "method.alpha",
            "method.ema_decay",
            "training.num_steps",
            "training.momentum",
            "search.folds",
            "search.sampler",
            "resources.gpus",
            "retrain.seeds",
        }
        assert all(str(problem).startswith(f"{file}:{problem.line}: ") for problem in bad.value.problems)
        assert all(problem.line for problem in bad.value.problems)
        assert all(problem.expected and problem.got for problem in bad.value.problems)

    @pytest.mark.parametrize(
        ("changes", "where", "expected"),
        [
            ({"serach": {}}, "serach", "one of the sections"),
            ({"name": None}, "name", "a name of letters"),
            ({"name": "a/b"}, "name", "a name of letters"),
            ({"name": 3}, "name", "a name of letters"),
            ({"data": None}, "data", "a section of keys and values"),
            ({"training": 3}, "training", "a section of keys and values"),
            ({"method__gamma_fe": {"log_unifrom": [0.1, 1]}}, "method.gamma_fe", "a dimension of kind uniform, "),
            ({"method__gamma_fe": {"uniform": [1, 0.1]}}, "method.gamma_fe", "numbers low < high"),
            ({"method__gamma_fe": {"log_uniform": [0, 0.1]}}, "method.gamma_fe", "numbers 0 < low < high"),
            ({"method__alpha": {"uniform": [-0.5, 1]}}, "method.alpha", "a number of at least 0"),
            ({"method__ema_decay": {"uniform": [0.5, 1.1]}}, "method.ema_decay", "a number of at most 1"),
            ({"training__batch_size": {"uniform": [8, 16.5]}}, "training.batch_size", "a whole number"),
            (
                {"method__name": {"choice": ["smile", "l2"]}},
                "method.name",
                "`method: {choice: [{name: smile, …}, {name: l2, …}]}`",
            ),
            ({"search__trials": 0}, "search.trials", "a number above 0"),
            (
                {"search__max_fold_trainings": 1},
                "search.max_fold_trainings",
                "a budget of at least the 2 folds of one trial",
            ),
            (
                {"search__max_fold_trainings": 5, "search__baselines": ["linear_probe", "fine_tuning"]},
                "search.max_fold_trainings",
                "a budget of at least the 6 folds of one trial and 2 baselines (search.baselines: [] leaves them out)",
            ),
            ({"search__baselines": ["probe"]}, "search.baselines[0]", "'linear_probe' or 'fine_tuning'"),
            ({"search__concurrency": 0}, "search.concurrency", "a number above 0 or 'auto'"),
            (
                {"search__first_points": [{"gama_fe": 0.02}]},
                "search.first_points[0].gama_fe",
                "one of the dimensions gamma_fe, alpha",
            ),
            (
                {"search__first_points": [{"gamma_fe": 0.5}]},
                "search.first_points[0].gamma_fe",
                "a value of log_uniform [0.01, 0.1]",
            ),
            (
                {"search__first_points": [{"alpha": 0.2, "method.alpha": 0.2}]},
                "search.first_points[0].method.alpha",
                "a dimension that is given once",
            ),
            (
                {"search__first_points": [{"gamma_fc": 0.1}]},
                "search.first_points[0].gamma_fc",
                "one of the dimensions gamma_fe, alpha",
            ),
        ],
    )
    def test_names_the_key_and_what_must_hold(self, changes: dict[str, Any], where: str, expected: str) -> None:
        said = [problem.expected for problem in problems_of(**changes) if problem.where == where]
        assert any(expected in text for text in said)

    def test_a_value_that_is_invalid_at_every_point_is_one_problem(self) -> None:
        assert [problem.where for problem in problems_of(training__num_steps=0)] == ["training.num_steps"]

    def test_a_broken_dimension_is_not_also_called_missing(self) -> None:
        found = problems_of(training__num_steps={"int": [5, 1]})
        assert [problem.where for problem in found] == ["training.num_steps"]
