"""A search over methods with dimensions of their own, from its file to a model, and on from there."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.end_to_end.commands import Run, run_process
from tests.end_to_end.space import write_space
from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import METHODS
from tuner.experiment.search_experiment import load_experiment
from tuner.record.events import SearchEnded, TrialStarted

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]

POINTS = [{"method": "l2"}, {"method": "smile", "alpha": 0.2}, {"method": "mixup"}]
SEARCH = {"trials": 3, "folds": 2, "concurrency": 1, "baselines": [], "first_points": POINTS}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Run:
    folder = tmp_path_factory.mktemp("alternatives")
    write_space(folder, photos, method=METHODS, search=SEARCH, retrain={"seeds": 1})
    return run_process("tuner.search", "--space", "tiny.yaml", "--json", "outcome.json", folder=folder)


def test_every_method_was_tried_and_the_best_became_a_model(searched: Run) -> None:
    assert searched.code == 0, searched.out + searched.err
    # Those of the first command: the search may have been resumed since.
    first = takewhile(lambda event: not isinstance(event, SearchEnded), searched.events)
    params = [event.params for event in first if isinstance(event, TrialStarted)]
    assert [set(each) for each in params] == [
        {"method"},
        {"method", "method.smile.gamma_fe", "method.smile.alpha"},
        {"method", "method.mixup.alpha"},
    ]
    assert params[1]["method.smile.alpha"] == 0.2
    best = searched.outcome["best_params"]["method"]
    assert searched.outcome["best_config"]["method"]["name"] == best
    assert searched.outcome["model_uri"] == "models:/tiny/1"
    assert f"method={best}" in searched.out


def test_its_runs_in_mlflow_have_what_exists_in_them(searched: Run) -> None:
    client = MlflowClient(searched.outcome["tracking_uri"])
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {run.info.run_name: run.data.params for run in client.search_runs([experiment.experiment_id])}
    of_trials = {name: params for name, params in runs.items() if name.startswith("trial-")}
    assert {params["method"] for params in of_trials.values()} == {"l2", "mixup", "smile"}
    for params in of_trials.values():
        assert params["method.name"] == params["method"]
        assert ("gamma_fe" in params) == (params["method"] == "smile")


def test_the_best_configuration_is_an_experiment(searched: Run) -> None:
    alone = load_experiment(searched.directory / "best.yaml")
    assert not alone.dimensions
    assert alone.trial_config({}).method.name == searched.outcome["best_params"]["method"]


def test_it_goes_on_with_more_trials(searched: Run) -> None:
    arguments = ("--space", "tiny.yaml", "--resume", "--trials", "4", "--json", "more.json")
    more = run_process("tuner.search", *arguments, folder=searched.folder)
    assert more.code == 0, more.out + more.err
    assert "4 complete" in more.out or "3 complete, 1 pruned" in more.out
