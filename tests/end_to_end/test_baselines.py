"""Searches with baselines, of real processes: one in which the linear probe wins, and one that is cut off at them."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image
from sklearn.datasets import load_digits

from tests.end_to_end.commands import Run, ended, run_command, start_process, wait_until
from tests.end_to_end.records import events_below, kinds_of, was_interrupted
from tests.end_to_end.space import write_space
from tests.marks import MLFLOW_LEAKS
from tuner.record.events import BaselineFoldFinished, Event, ModelRegistered
from tuner.reports.search_result import BASELINE_WON

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]

BOTH = ["linear_probe", "fine_tuning"]
COMMAND = ("tuner.search", "--space", "tiny.yaml", "--json", "outcome.json")
ONE_STEP: dict[str, Any] = {
    "method": {"name": "l2"},
    "training__num_steps": 1,
    "training__learning_rate": {"log_uniform": [1e-5, 1e-4]},
    "search__trials": 2,
    "search__concurrency": 2,
    "search__first_points": [],
    "search__baselines": BOTH,
}
"""Trials that take one short step: with a random head no better than chance."""


def baseline_folds(events: list[Event]) -> list[tuple[str, int]]:
    """Baseline and fold of each fold of a baseline that was finished."""
    return [(event.baseline, event.result.fold) for event in events if isinstance(event, BaselineFoldFinished)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Run:
    folder = tmp_path_factory.mktemp("probe")
    write_space(folder, photos, **ONE_STEP)
    return run_command(*COMMAND, folder=folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> tuple[Run, list[Event], Run]:
    """A search that Ctrl-C stops among its baselines, its events then, and its second command."""
    folder = tmp_path_factory.mktemp("cut-off")
    write_space(folder, photos, **ONE_STEP, training__head_init="probe")
    first = start_process(*COMMAND, folder=folder)
    wait_until(lambda: baseline_folds(events_below(folder)) != [], first)
    os.killpg(first.pid, signal.SIGINT)
    interrupted = ended(first, folder)
    return interrupted, interrupted.events, run_command(*COMMAND, "--resume", folder=folder)


class TestAProbeThatWins:
    def test_every_fold_of_the_baselines_is_scored_before_the_first_trial(self, run: Run) -> None:
        assert run.code == 0, run.out + run.err
        assert sorted(baseline_folds(run.events)) == [(name, k) for name in sorted(BOTH) for k in (1, 2)]
        kinds = kinds_of(run.events)
        last = max(i for i, kind in enumerate(kinds) if kind == "baseline_fold_finished")
        assert last < kinds.index("trial_started")

    def test_the_end_says_how_the_best_stands_to_each(self, run: Run) -> None:
        outcome = run.outcome
        probe, plain = outcome["baselines"]["linear_probe"], outcome["baselines"]["fine_tuning"]
        assert f"linear probe: validation top-1 {probe['val_top1']:.4f} (" in run.out
        assert f"  linear probe   top-1 {probe['val_top1']:.4f}: best is −" in run.out
        assert f"  fine-tuning    top-1 {plain['val_top1']:.4f}: best is " in run.out
        assert f"    linear probe top-1 {probe['test_top1_mean']:.4f}: best is " in run.out
        assert (
            f"    fine-tuning  top-1 {plain['test_top1_mean']:.4f} ± {plain['test_top1_sd']:.4f}: best is " in run.out
        )
        assert re.search(r"^  winner         the linear probe: no trial has a better", run.out, re.MULTILINE)

    def test_the_outcome_has_scores_and_differences(self, run: Run) -> None:
        outcome = run.outcome
        assert outcome["winner"] == "linear_probe"
        probe, plain = outcome["baselines"]["linear_probe"], outcome["baselines"]["fine_tuning"]
        assert probe["val_top1"] > outcome["val_top1"]
        assert probe["difference_val"]["mean"] == pytest.approx(outcome["val_top1"] - probe["val_top1"])
        assert (list(probe["test_scores"]), list(plain["test_scores"])) == (["0"], ["0", "1"])
        assert probe["difference_test"]["num_pairs"] == plain["difference_test"]["num_pairs"] == 2

    def test_its_model_is_registered_and_predicts(self, run: Run, tmp_path: Path) -> None:
        (registered,) = (event for event in run.events if isinstance(event, ModelRegistered))
        assert (registered.trial, registered.baseline) == (None, "linear_probe")
        uri = run.outcome["tracking_uri"]
        client = MlflowClient(uri)
        version = client.get_model_version_by_alias("tiny", "champion")
        assert version.run_id is not None
        assert client.get_run(version.run_id).info.run_name == "retrain-linear_probe-seed-0"
        digit = Image.fromarray((load_digits().images[0] * 15).astype("uint8"))
        digit.save(tmp_path / "zero.png")
        asked = ["--model", run.outcome["model_uri"], "--tracking-uri", uri, "zero.png"]
        seen = run_command("tuner.predict", *asked, folder=tmp_path)
        assert seen.code == 0, seen.err
        assert len(seen.out.splitlines()) == 5

    def test_mlflow_has_the_baselines_beside_the_trials(self, run: Run) -> None:
        client = MlflowClient(run.outcome["tracking_uri"])
        experiment = client.get_experiment_by_name("tiny")
        assert experiment is not None
        runs = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
        parent = runs[run.directory.name]
        assert parent.data.tags["winner"] == "linear_probe"
        probe = run.outcome["baselines"]["linear_probe"]
        assert runs["baseline-linear_probe"].data.metrics["val_top1"] == pytest.approx(probe["val_top1"])
        difference = parent.data.metrics["best_minus_linear_probe/test_top1"]
        assert difference == pytest.approx(probe["difference_test"]["mean"])

    def test_the_report_has_the_table_and_best_yaml_is_the_probe(self, run: Run) -> None:
        page = (run.directory / "report.html").read_text(encoding="utf-8")
        assert "Against the baselines" in page
        assert f"<strong>linear probe</strong>: {BASELINE_WON}." in page
        assert "num_steps: 0" in (run.directory / "best.yaml").read_text(encoding="utf-8")


class TestOneThatIsCutOff:
    def test_it_goes_on_with_the_folds_that_are_missing(self, runs: tuple[Run, list[Event], Run]) -> None:
        interrupted, before, resumed = runs
        assert interrupted.code == 1, interrupted.out + interrupted.err
        assert was_interrupted(before)
        assert 0 < len(baseline_folds(before)) < 4
        assert resumed.code == 0, resumed.out + resumed.err
        assert resumed.events[: len(before)] == before
        assert sorted(baseline_folds(resumed.events)) == [(name, k) for name in sorted(BOTH) for k in (1, 2)]

    def test_trials_whose_head_starts_as_the_probe_are_no_worse(self, runs: tuple[Run, list[Event], Run]) -> None:
        outcome = runs[2].outcome
        probe = outcome["baselines"]["linear_probe"]["val_top1"]
        assert outcome["val_top1"] == pytest.approx(probe, abs=0.15)  # after one short step
