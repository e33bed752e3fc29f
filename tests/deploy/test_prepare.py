"""What an experiment must be to run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.prepare import prepare
from deploy.settings import load_settings
from tests.tuner.tiny import write_yaml
from trainables.errors import BadInput, Problem
from tuner.experiment.checks import check_experiment
from tuner.experiment.search_experiment import load_experiment


@pytest.fixture(autouse=True)
def nothing_is_checked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_experiment` has its own tests, and reads weights."""
    monkeypatch.setattr("deploy.prepare.check_experiment", lambda space: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_job_has_a_folder_of_its_own(tmp_path: Path) -> None:
    file = write_yaml(tmp_path, tracking={"directory": "/shared/experiments/"})
    ready = prepare(file, {}, "mine")
    assert ready.directory == "/shared/experiments/mine"
    assert yaml.safe_load(ready.text)["tracking"] == {"directory": "/shared/experiments/mine"}


def test_without_one_it_is_below_where_the_settings_say(tmp_path: Path) -> None:
    ready = prepare(write_yaml(tmp_path), {}, "mine")
    assert ready.directory == f"{load_settings().storage.experiments}/mine"


def test_what_travels_is_the_experiment_with_what_it_extends_and_what_overrides_it(tmp_path: Path) -> None:
    write_yaml(tmp_path)
    file = tmp_path / "short.yaml"
    file.write_text("extends: tiny.yaml\nsearch: {trials: 4}\n")
    (tmp_path / "there").mkdir()
    packed = tmp_path / "there" / "space.yaml"
    packed.write_text(prepare(file, {"training.num_steps": 7}, "mine").text)
    space = load_experiment(packed)
    assert (space.search.trials, space.search.folds) == (4, 2)
    assert space.trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5}).training.num_steps == 7
    assert list(space.dimensions) == ["method.gamma_fe", "method.alpha"]


def test_the_tracking_address_goes_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_yaml(tmp_path, tracking={"uri": "http://mlflow:5000"})
    ready = prepare(file, {}, "mine")
    assert ready.environment == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert "mlflow:5000" not in ready.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert prepare(file, {}, "mine").environment == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert prepare(write_yaml(tmp_path), {}, "mine").environment == {"MLFLOW_TRACKING_URI": "http://other:5000"}


def test_without_an_address_here_the_nodes_have_theirs(tmp_path: Path) -> None:
    assert prepare(write_yaml(tmp_path), {}, "mine").environment == {}


def test_where_experiments_are_on_s3_the_head_has_the_folder_and_s3_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepare(write_yaml(tmp_path), {"tracking.directory": "s3://lab/runs/"}, "mine")
    local = load_settings().storage.local
    assert yaml.safe_load(ready.text)["tracking"] == {"directory": f"{local}/mine", "mirror": "s3://lab/runs/mine"}
    assert (ready.directory, ready.mirror) == (f"{local}/mine", "s3://lab/runs/mine")
    assert ready.environment == {}  # the nodes have region and endpoint
    ready = prepare(write_yaml(tmp_path), {"tracking.directory": "/fast", "tracking.mirror": "s3://lab/runs"}, "mine")
    assert (ready.directory, ready.mirror) == ("/fast/mine", "s3://lab/runs/mine")
    ours = {"storage.experiments": "s3://lab/ours", "storage.endpoint": "http://store:9000"}
    settings = load_settings(overrides=ours)
    monkeypatch.setattr("deploy.prepare.load_settings", lambda: settings)
    ready = prepare(write_yaml(tmp_path), {}, "mine")
    assert (ready.directory, ready.mirror) == (f"{local}/mine", "s3://lab/ours/mine")
    assert ready.environment == {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://store:9000"}


@pytest.mark.parametrize("uri", ["http://ada:pa55@mlflow:5000", "postgresql://u:pa55@db/m", "http://m/?token=pa55"])
@pytest.mark.parametrize("way", ["file", "environment"])
def test_an_address_with_a_password_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, way: str
) -> None:
    file = write_yaml(tmp_path, **({"tracking": {"uri": uri}} if way == "file" else {}))
    if way == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BadInput, match="expected no password or token") as refused:
        prepare(file, {}, "mine")
    assert "pa55" not in str(refused.value)
    assert len(refused.value.problems) == 1


def test_a_password_anywhere_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"tracking.registered_model: expected ") as refused:
        prepare(write_yaml(tmp_path, tracking={"registered_model": "http://u:pa55@x"}), {}, "mine")
    assert "pa55" not in str(refused.value)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "mlflow:5000"])
def test_a_store_that_only_this_machine_has_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(BadInput, match=r"tracking.uri: expected a server that the cluster reaches"):
        prepare(write_yaml(tmp_path), {"tracking.uri": uri}, "mine")


@pytest.mark.parametrize(
    ("leaf", "value"),
    [("tracking.directory", "experiments"), ("data.root", "photos"), ("backbone.checkpoint", "~/resnet50.pth")],
)
def test_a_place_relative_to_this_machines_folders_is_refused(tmp_path: Path, leaf: str, value: str) -> None:
    with pytest.raises(BadInput) as refused:
        prepare(write_yaml(tmp_path), {leaf: value}, "mine")
    (problem,) = refused.value.problems
    assert (problem.where, problem.expected, problem.got) == (
        f"--set {leaf}",
        "an absolute path on the cluster",
        repr(value),
    )


def test_a_manifest_relative_to_this_machines_folders_is_refused(tmp_path: Path) -> None:
    data = {"data.dataset": "manifest", "data.file": "labels.csv"}
    with pytest.raises(BadInput, match=r"--set data\.file: expected an absolute path on the cluster, got 'labels.csv'"):
        prepare(write_yaml(tmp_path), data, "mine")


def test_everything_wrong_with_the_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        prepare(write_yaml(tmp_path, search__trials=0, method__gamma_fe=-1.0, training__stepps=3), {}, "mine")
    assert {p.where for p in refused.value.problems} == {"search.trials", "method.gamma_fe", "training.stepps"}


def test_what_only_the_cluster_has_is_not_missed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(space: object) -> None:
        places = ("data.root", "data.file", "backbone.checkpoint", "tracking.uri", "method")
        raise BadInput(Problem(where, "a thing", "nothing") for where in places)

    monkeypatch.setattr("deploy.prepare.check_experiment", check)
    with pytest.raises(BadInput) as refused:
        prepare(write_yaml(tmp_path), {}, "mine")
    assert [p.where for p in refused.value.problems] == ["method"]


def test_paths_in_alternatives_are_absolute_and_looked_for_on_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.prepare.check_experiment", check_experiment)

    def backbone(checkpoint: str) -> dict[str, object]:
        files = [{"label": "a", "checkpoint": "/nowhere/a.pth"}, {"label": "b", "checkpoint": checkpoint}]
        return {"name": "timm/resnet18", "choice": files}

    assert prepare(write_yaml(tmp_path, backbone=backbone("/nowhere/b.pth")), {}, "mine").space.branches.alternatives
    with pytest.raises(BadInput) as bad:
        prepare(write_yaml(tmp_path, backbone=backbone("nowhere/b.pth")), {}, "mine")
    assert [problem.where for problem in bad.value.problems] == ["backbone.choice[1].checkpoint"]


def test_the_job_uses_the_plugins_that_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def size(*images):\n    'Number of images.'\n\nMEASURES = {'size': size}\n")
    monkeypatch.setenv("SMILE_TUNER_PLUGINS", str(tmp_path / "mine.py"))
    assert prepare(write_yaml(tmp_path), {}, "mine").environment == {"SMILE_TUNER_PLUGINS": "plugins/mine.py"}
