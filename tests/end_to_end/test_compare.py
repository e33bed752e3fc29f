"""The compare command in real processes: two methods × two columns × two seeds, and one that is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from tests.end_to_end.conftest import DEADLINE_S, Run, clean_environment, give, journal_text, wait_until
from tests.marks import MLFLOW_LEAKS
from tests.tuner.comparisons import ROWS, SEARCHED, write_yaml

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]

ARGUMENTS = ("--space", "tiny.yaml", "--json", "outcome.json")
CELLS = {(row, column, seed) for row in ("L²", "SMILE") for column in ("20", "30") for seed in range(2)}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("compared")
    write_yaml(folder, compare__measures=["interpolation"])
    return give("tuner.compare", *ARGUMENTS, folder=folder)


@pytest.fixture(scope="module")
def runs(compared: Run) -> dict[str, MlflowRun]:
    assert compared.code == 0, compared.out + compared.err
    client = MlflowClient(compared.outcome["tracking_uri"])
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def cells_of(events: list[dict[str, Any]]) -> Counter[tuple[str, str, int]]:
    return Counter((e["row"], e["column"], e["seed"]) for e in events if e["event"] == "cell_finished")


def test_every_cell_is_trained_once(compared: Run) -> None:
    assert compared.code == 0, compared.out + compared.err
    assert compared.err == ""
    assert cells_of(compared.events) == Counter(CELLS)
    assert compared.events[-1]["event"] == "comparison_finished"


def test_the_outcome_is_complete_and_agrees_with_itself(compared: Run) -> None:
    outcome = compared.outcome
    assert {(s["row"], s["column"], s["seed"]) for s in outcome["scores"]} == CELLS
    assert (outcome["complete"], outcome["reference"], outcome["failures"]) == (True, "L²", [])
    for entry in outcome["entries"]:
        if entry["metric"] == "test_top1":
            place = entry["row"], entry["column"]
            scores = [s["test_top1"] for s in outcome["scores"] if (s["row"], s["column"]) == place]
            assert (entry["mean"], entry["sd"]) == pytest.approx((fmean(scores), stdev(scores)))
    assert all(score["measures"]["feature_il_test"] > 0 for score in outcome["scores"])


def test_the_tables_are_on_the_screen_and_in_files(compared: Run) -> None:
    markdown = (compared.directory / "comparison.md").read_text()
    assert "| method | 20 | 30 |" in markdown
    assert "**" in markdown
    assert "Label-IL train" in markdown
    assert "Difference from L²:" in markdown
    assert all(line in compared.out for line in markdown.splitlines())
    assert (compared.directory / "comparison.html").read_text().startswith("<!doctype html>")


def test_mlflow_has_every_cell(compared: Run, runs: dict[str, MlflowRun]) -> None:
    parent = runs[compared.directory.name]
    assert parent.info.status == "FINISHED"
    for score in compared.outcome["scores"]:
        run = runs[f"{score['row']} | {score['column']} | seed {score['seed']}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert {key: run.data.tags[key] for key in ("row", "column", "seed")} == {
            "row": score["row"],
            "column": score["column"],
            "seed": str(score["seed"]),
        }
        assert run.data.metrics["test_top1"] == pytest.approx(score["test_top1"])
        assert run.data.metrics["label_il_train"] == pytest.approx(score["measures"]["label_il_train"])
        assert "loss/target_label" in run.data.metrics
    client = MlflowClient(compared.outcome["tracking_uri"])
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"space.yaml", "environment.json", "comparison.md", "comparison.html"}


@dataclass(frozen=True)
class Interrupted:
    """A comparison with a searched row, cut off by Ctrl-C after its first training, and gone on with."""

    first: Run
    events: list[dict[str, Any]]
    second: Run


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    write_yaml(
        folder, compare__rows=[*ROWS, SEARCHED], compare__columns=[{"label": "20", "data": {"train_images": 20}}]
    )
    command = [sys.executable, "-m", "tuner.compare", "--space", "tiny.yaml", "--set", "training.num_steps=4"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=clean_environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as comparison:
        wait_until(lambda: "cell_finished" in journal_text(folder), comparison)
        os.killpg(comparison.pid, signal.SIGINT)  # as a terminal does it: to all processes in the foreground
        out, err = comparison.communicate(timeout=DEADLINE_S)
    first = Run(folder, comparison.returncode, out, err)
    before = first.events
    record = str(first.directory / "space.yaml")
    second = give("tuner.compare", "--space", record, "--resume", "--json", "outcome.json", folder=folder)
    return Interrupted(first, before, second)


def test_ctrl_c_says_how_to_go_on(interrupted: Interrupted) -> None:
    first = interrupted.first
    assert first.code == 1, first.out + first.err
    assert "Traceback" not in first.out + first.err
    assert "interrupted: every finished training is kept" in first.out
    assert f"python -m tuner.compare --space {first.directory / 'space.yaml'} --resume" in first.out
    assert (interrupted.events[-1]["event"], interrupted.events[-1]["why"]) == ("comparison_finished", "interrupted")


def test_it_goes_on_with_exactly_what_is_missing(interrupted: Interrupted) -> None:
    second = interrupted.second
    assert second.code == 0, second.out + second.err
    events = second.events
    assert events[: len(interrupted.events)] == interrupted.events
    everything = {(row, "20", seed) for row in ("L²", "SMILE", "searched") for seed in range(2)}
    assert cells_of(events) == Counter(everything)
    assert 0 < len(cells_of(interrupted.events)) < len(everything)
    assert [e["row"] for e in events if e["event"] == "row_searched"] == ["searched"]
    (chosen,) = second.outcome["chosen"]
    assert 0.1 <= chosen["params"]["alpha"] <= 1.0


def test_what_cannot_run_is_refused_at_once(tmp_path: Path) -> None:
    write_yaml(tmp_path, training__num_stps=3, compare__rows=[*ROWS, {**SEARCHED, "search": {"trils": 2}}])
    refused = give("tuner.compare", *ARGUMENTS, folder=tmp_path)
    assert refused.code == 2
    assert "Traceback" not in refused.out + refused.err
    assert "error: tiny.yaml: training.num_stps: " in refused.err
    assert "error: tiny.yaml: compare.rows[2].search.trils: " in refused.err
    assert not (tmp_path / "experiments").exists()
