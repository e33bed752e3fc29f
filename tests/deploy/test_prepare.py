"""What an experiment must be to run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.prepare import prepare
from tests.tuner.tiny import write_yaml
from trainables.errors import BadInput, Problem
from tuner.experiment.checks import check_experiment
from tuner.experiment.search_experiment import load_experiment


@pytest.fixture(autouse=True)
def nothing_is_checked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_experiment` has its own tests, and reads weights."""
    monkeypatch.setattr("deploy.prepare.check_experiment", lambda space: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_place_of_results_travels_as_it_is_said_and_the_cluster_decides_on_the_rest(tmp_path: Path) -> None:
    ready = prepare(write_yaml(tmp_path), {})
    assert "directory" not in yaml.safe_load(ready.text)["tracking"]
    ready = prepare(write_yaml(tmp_path), {"tracking.directory": "s3://lab/runs/"})
    assert yaml.safe_load(ready.text)["tracking"] == {"directory": "s3://lab/runs/"}
    assert ready.environment == {}  # the nodes have region and endpoint


def test_what_travels_is_the_experiment_with_what_it_extends_and_what_overrides_it(tmp_path: Path) -> None:
    write_yaml(tmp_path)
    file = tmp_path / "short.yaml"
    file.write_text("extends: tiny.yaml\nsearch: {trials: 4}\n")
    (tmp_path / "there").mkdir()
    packed = tmp_path / "there" / "space.yaml"
    packed.write_text(prepare(file, {"training.num_steps": 7}).text)
    space = load_experiment(packed)
    assert (space.search.trials, space.search.folds) == (4, 2)
    assert space.trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5}).training.num_steps == 7
    assert list(space.dimensions) == ["method.gamma_fe", "method.alpha"]


def test_the_tracking_address_goes_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_yaml(tmp_path, tracking={"uri": "http://mlflow:5000"})
    ready = prepare(file, {})
    assert ready.environment == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert "mlflow:5000" not in ready.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert prepare(file, {}).environment == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert prepare(write_yaml(tmp_path), {}).environment == {"MLFLOW_TRACKING_URI": "http://other:5000"}


def test_without_an_address_here_the_nodes_have_theirs(tmp_path: Path) -> None:
    assert prepare(write_yaml(tmp_path), {}).environment == {}


@pytest.mark.parametrize("uri", ["http://ada:pa55@mlflow:5000", "postgresql://u:pa55@db/m", "http://m/?token=pa55"])
@pytest.mark.parametrize("way", ["file", "environment"])
def test_an_address_with_a_password_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, way: str
) -> None:
    file = write_yaml(tmp_path, **({"tracking": {"uri": uri}} if way == "file" else {}))
    if way == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BadInput, match="expected no password or token") as refused:
        prepare(file, {})
    assert "pa55" not in str(refused.value)
    assert len(refused.value.problems) == 1


def test_a_password_anywhere_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"tracking.registered_model: expected ") as refused:
        prepare(write_yaml(tmp_path, tracking={"registered_model": "http://u:pa55@x"}), {})
    assert "pa55" not in str(refused.value)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "mlflow:5000"])
def test_a_store_that_only_this_machine_has_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(BadInput, match=r"tracking.uri: expected a server that the cluster reaches"):
        prepare(write_yaml(tmp_path), {"tracking.uri": uri})


@pytest.mark.parametrize(
    ("leaf", "value"),
    [("tracking.directory", "experiments"), ("data.root", "photos"), ("backbone.checkpoint", "~/resnet50.pth")],
)
def test_a_place_relative_to_this_machines_folders_is_refused(tmp_path: Path, leaf: str, value: str) -> None:
    with pytest.raises(BadInput) as refused:
        prepare(write_yaml(tmp_path), {leaf: value})
    (problem,) = refused.value.problems
    assert (problem.where, problem.expected, problem.got) == (
        f"--set {leaf}",
        "an absolute path on the cluster",
        repr(value),
    )


def test_a_manifest_relative_to_this_machines_folders_is_refused(tmp_path: Path) -> None:
    data = {"data.dataset": "manifest", "data.file": "labels.csv"}
    with pytest.raises(BadInput, match=r"--set data\.file: expected an absolute path on the cluster, got 'labels.csv'"):
        prepare(write_yaml(tmp_path), data)


def test_everything_wrong_with_the_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        prepare(write_yaml(tmp_path, search__trials=0, method__gamma_fe=-1.0, training__stepps=3), {})
    assert {p.where for p in refused.value.problems} == {"search.trials", "method.gamma_fe", "training.stepps"}


def test_what_only_the_cluster_has_is_not_missed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(space: object) -> None:
        places = ("data.root", "data.file", "backbone.checkpoint", "tracking.uri", "method")
        raise BadInput(Problem(where, "a thing", "nothing") for where in places)

    monkeypatch.setattr("deploy.prepare.check_experiment", check)
    with pytest.raises(BadInput) as refused:
        prepare(write_yaml(tmp_path), {})
    assert [p.where for p in refused.value.problems] == ["method"]


def test_paths_in_alternatives_are_absolute_and_looked_for_on_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.prepare.check_experiment", check_experiment)

    def backbone(checkpoint: str) -> dict[str, object]:
        files = [{"label": "a", "checkpoint": "/nowhere/a.pth"}, {"label": "b", "checkpoint": checkpoint}]
        return {"name": "timm/resnet18", "choice": files}

    assert prepare(write_yaml(tmp_path, backbone=backbone("/nowhere/b.pth")), {}).space.branches.alternatives
    with pytest.raises(BadInput) as bad:
        prepare(write_yaml(tmp_path, backbone=backbone("nowhere/b.pth")), {})
    assert [problem.where for problem in bad.value.problems] == ["backbone.choice[1].checkpoint"]


@pytest.mark.usefixtures("no_plugins")
def test_the_job_uses_the_plugins_that_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def size(*images):\n    'Number of images.'\n\nMEASURES = {'size': size}\n")
    monkeypatch.setenv("SMILE_TUNER_PLUGINS", str(tmp_path / "mine.py"))
    assert prepare(write_yaml(tmp_path), {}).environment == {"SMILE_TUNER_PLUGINS": "plugins/mine.py"}
