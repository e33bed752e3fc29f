"""The report of a real search, without a browser (`test_browser.py` has one)."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.end_to_end.commands import Run, run_command
from tests.marks import MLFLOW_LEAKS
from tuner.experiment.search_experiment import load_experiment
from tuner.record.directory import RunDirectory
from tuner.reports.search_run import read_run

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]


def test_each_search_ends_with_its_report_which_mlflow_has_too(finished: Run) -> None:
    assert finished.code == 0, finished.out + finished.err
    report = finished.directory / "report.html"
    assert f"report: {report}" in finished.out
    page = report.read_text(encoding="utf-8")
    assert f"Best is <strong>{finished.outcome['best_trial']}</strong>" in page
    client = MlflowClient(finished.outcome["tracking_uri"])
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (parent,) = (
        run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == finished.directory.name
    )
    assert Path(client.download_artifacts(parent.info.run_id, "report.html")).read_text(encoding="utf-8") == page


def test_the_best_configuration_runs_as_it_is(finished: Run, tmp_path: Path) -> None:
    best = finished.directory / "best.yaml"
    assert load_experiment(best).trial_config({}).model_dump(mode="json") == finished.outcome["best_config"]
    planned = run_command("tuner.search", "--space", str(best), "--dry-run", folder=tmp_path)
    assert planned.code == 0, planned.err
    assert "1 trial" in planned.out


def test_the_command_writes_it_anew_by_name(finished: Run, tmp_path: Path) -> None:
    written = run_command("tuner.report", "tiny", "--output", str(tmp_path / "page.html"), folder=finished.folder)
    assert (written.code, written.out) == (0, f"{tmp_path / 'page.html'}\n"), written.err
    assert read_run(RunDirectory(finished.directory)).space.name in (tmp_path / "page.html").read_text(encoding="utf-8")
