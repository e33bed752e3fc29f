"""The report of a real search, without a browser (`test_browser.py` has one)."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.end_to_end.commands import DEADLINE_S, Run, ended, run_command, start_process
from tests.marks import MLFLOW_LEAKS
from tuner.experiment.search_experiment import load_experiment
from tuner.record.directory import RunDirectory
from tuner.reports.batch_preview import batch_picture
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


def test_the_report_shows_a_training_batch_and_what_comes_next(finished: Run) -> None:
    directory = RunDirectory(finished.directory)
    page = directory.report.read_text(encoding="utf-8")
    assert batch_picture(directory) in page
    assert directory.batch_picture.stat().st_size > 0
    model = f"--model {finished.outcome['model_uri']} --tracking-uri {finished.outcome['tracking_uri']}"
    assert f"tuner.predict {model} photo.jpg</pre>" in page
    assert f"tuner.try {model}</pre>" in page


def test_it_is_served_until_ctrl_c(finished: Run) -> None:
    process = start_process("tuner.report", "tiny", "--serve", "--port", "0", folder=finished.folder)
    assert process.stdout is not None
    address, _, words = process.stdout.readline().strip().partition("  ")
    assert words == "(Ctrl-C ends it)"
    with urllib.request.urlopen(f"{address}/", timeout=DEADLINE_S) as answer:
        assert "<title>tiny</title>" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    served = ended(process, finished.folder)
    assert (served.code, served.out, served.err) == (0, "", "")


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
