"""The search command, from an experiment file to a registered model, and back from there."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean, stdev

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from PIL import Image
from sklearn.datasets import load_digits

from tests.end_to_end.commands import Run, run_command
from tests.end_to_end.records import is_tested_last, trials_of, trials_started
from tests.marks import MLFLOW_LEAKS

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]


@pytest.fixture(scope="module")
def client(finished: Run) -> MlflowClient:
    assert finished.code == 0, finished.out + finished.err
    return MlflowClient(finished.outcome["tracking_uri"])


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> dict[str, MlflowRun]:
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_ends_well_and_says_nothing_but_its_own_lines(finished: Run) -> None:
    assert finished.code == 0, finished.out + finished.err
    assert finished.err == ""
    lines = finished.out.splitlines()
    ours = re.compile(
        r"checking |\[\d+:\d\d\] |tiny: |  data|  (best|validation|test|scores|model|record|see it) "
        r"|  +python -m tuner\.predict "
    )
    assert [line for line in lines if not ours.match(line)] == []
    assert "\x1b" not in finished.out
    assert (finished.directory / "logs" / "driver.log").exists()


def test_says_that_there_is_no_gpu(finished: Run) -> None:
    assert "resources.gpus is 0.25, but there is no GPU: trials run on the CPU" in finished.out


def test_the_end_says_what_was_found_and_how_to_go_on(finished: Run) -> None:
    outcome = finished.outcome
    assert f"best           {outcome['best_trial']}: gamma_fe=" in finished.out
    assert f"top-1 {outcome['val_top1']:.4f} over 2 folds" in finished.out
    assert f"test           top-1 {outcome['test_top1_mean']:.4f} ± {outcome['test_top1_sd']:.4f}" in finished.out
    assert f"python -m tuner.ui --tracking-uri {outcome['tracking_uri']}" in finished.out
    assert "behind" not in finished.out


def test_the_outcome_is_complete_and_agrees_with_itself(finished: Run) -> None:
    outcome = finished.outcome
    assert outcome["trials"] == {"running": 0, "complete": 3, "pruned": 0, "failed": 0}
    assert outcome["val_top1"] == pytest.approx(fmean(outcome["fold_scores"]))
    assert len(outcome["fold_scores"]) == 2
    assert outcome["best_config"]["method"]["gamma_fe"] == outcome["best_params"]["gamma_fe"]
    assert outcome["best_config"]["data"]["dataset"] == "imagefolder"
    scores = list(outcome["test_scores"].values())
    assert list(outcome["test_scores"]) == ["0", "1"]
    assert (outcome["test_top1_mean"], outcome["test_top1_sd"]) == pytest.approx((fmean(scores), stdev(scores)))
    assert outcome["model_uri"] == "models:/tiny/1"
    assert Path(outcome["directory"]) == finished.directory
    assert outcome["seconds"] > 0


def test_the_best_has_the_best_validation_mean(finished: Run) -> None:
    means = [fmean(fold.val_top1 for fold in trial.folds) for trial in trials_of(finished.events).values()]
    assert finished.outcome["val_top1"] == pytest.approx(max(means))


def test_the_first_point_came_first_and_was_completed(finished: Run) -> None:
    first = trials_of(finished.events)[trials_started(finished.events)[0]]
    assert first.params["gamma_fe"] == 0.02
    assert 0.1 <= first.params["alpha"] <= 1.0


def test_the_test_split_was_met_after_the_last_trial(finished: Run) -> None:
    assert is_tested_last(finished.events)


def test_mlflow_has_the_search(finished: Run, runs: dict[str, MlflowRun], client: MlflowClient) -> None:
    parent = runs[finished.directory.name]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best_trial"] == finished.outcome["best_trial"]
    assert parent.data.metrics["best_val_top1"] == pytest.approx(finished.outcome["val_top1"])
    assert parent.data.metrics["test_top1_mean"] == pytest.approx(finished.outcome["test_top1_mean"])
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts >= {"space.yaml", "environment.json"}


def test_mlflow_has_every_trial(finished: Run, runs: dict[str, MlflowRun]) -> None:
    parent = runs[finished.directory.name].info.run_id
    for number in range(3):
        run = runs[f"trial-{number:04d}"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert (run.data.tags["trial_id"], run.data.tags["state"]) == (f"trial-{number:04d}", "complete")
        folds = [run.data.metrics[f"fold_{k}/val_top1"] for k in (1, 2)]
        assert run.data.metrics["val_top1"] == pytest.approx(fmean(folds))
        assert {"gamma_fe", "alpha"} <= run.data.params.keys()
        tests = {key: value for key, value in run.data.metrics.items() if "test" in key}
        is_best = run.info.run_name == finished.outcome["best_trial"]
        assert tests == ({"test_top1": pytest.approx(finished.outcome["test_top1_mean"])} if is_best else {})


def test_mlflow_has_every_retraining(finished: Run, runs: dict[str, MlflowRun]) -> None:
    for seed, score in finished.outcome["test_scores"].items():
        assert runs[f"retrain-seed-{seed}"].data.metrics["test_top1"] == pytest.approx(score)


def test_the_models_way_back_through_the_registry(finished: Run, client: MlflowClient, tmp_path: Path) -> None:
    version = client.get_model_version_by_alias("tiny", "champion")
    assert version.run_id is not None
    assert client.get_run(version.run_id).info.run_name == "retrain-seed-0"
    digit = Image.fromarray((load_digits().images[0] * 15).astype("uint8"))
    digit.save(tmp_path / "zero.png")
    uri = finished.outcome["tracking_uri"]
    asked = ["--model", "models:/tiny@champion", "--tracking-uri", uri, "zero.png"]
    seen = run_command("tuner.predict", *asked, folder=tmp_path)
    assert seen.code == 0, seen.err
    lines = [line.split("\t") for line in seen.out.splitlines()]
    assert len(lines) == 5
    assert {photo for photo, _, _ in lines} == {"zero.png"}
    assert {name for _, name, _ in lines} <= set("0123456789")
    probabilities = [float(percent.rstrip("%")) for _, _, percent in lines]
    assert probabilities == sorted(probabilities, reverse=True)
