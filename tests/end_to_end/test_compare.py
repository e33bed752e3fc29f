"""The compare command in real processes: three methods, one of them searched, × two columns × two seeds; cut off by
Ctrl-C after its first training, and gone on with."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from tests.end_to_end.commands import Run, ended, run_command, start_process, wait_until
from tests.end_to_end.records import Event, cells_of, events_below, has_ended, rows_searched, was_interrupted
from tests.marks import MLFLOW_LEAKS
from tests.tuner.comparisons import ROWS, SEARCHED, write_yaml

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]

COLUMNS = ("20", "30")
CELLS = {(row, column, seed) for row in ("L²", "SMILE", "searched") for column in COLUMNS for seed in range(2)}


@dataclass(frozen=True)
class Story:
    """The command that was cut off, the record after it, and the command that ended the comparison."""

    interrupted: Run
    before: list[Event]
    ended: Run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("compared")
    write_yaml(folder, compare__measures=["interpolation"], compare__rows=[*ROWS, SEARCHED])
    process = start_process("tuner.compare", "--space", "tiny.yaml", "--set", "training.num_steps=4", folder=folder)
    wait_until(lambda: cells_of(events_below(folder)) != [], process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all processes in the foreground
    interrupted = ended(process, folder)
    before = interrupted.events
    record = str(interrupted.directory / "space.yaml")
    resumed = run_command("tuner.compare", "--space", record, "--resume", "--json", "outcome.json", folder=folder)
    return Story(interrupted, before, resumed)


@pytest.fixture(scope="module")
def compared(story: Story) -> Run:
    assert story.ended.code == 0, story.ended.out + story.ended.err
    return story.ended


@pytest.fixture(scope="module")
def runs(compared: Run) -> dict[str, MlflowRun]:
    client = MlflowClient(compared.outcome["tracking_uri"])
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_ctrl_c_says_how_to_go_on(story: Story) -> None:
    run = story.interrupted
    assert run.code == 1, run.out + run.err
    assert "Traceback" not in run.out + run.err
    assert "interrupted: every finished training is kept" in run.out
    assert f"python -m tuner.compare --space {run.directory / 'space.yaml'} --resume" in run.out
    assert was_interrupted(story.before)


def test_it_goes_on_with_exactly_what_is_missing(story: Story, compared: Run) -> None:
    assert compared.events[: len(story.before)] == story.before
    assert 0 < len(cells_of(story.before)) < len(CELLS)


def test_every_cell_is_trained_once(compared: Run) -> None:
    assert compared.err == ""
    assert Counter(cells_of(compared.events)) == Counter(CELLS)
    assert has_ended(compared.events)


def test_a_searched_row_is_searched_once_a_column(compared: Run) -> None:
    assert Counter(rows_searched(compared.events)) == Counter(("searched", column) for column in COLUMNS)
    assert len(compared.outcome["chosen"]) == len(COLUMNS)
    assert all(0.1 <= chosen["params"]["alpha"] <= 1.0 for chosen in compared.outcome["chosen"])


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


def test_what_cannot_run_is_refused_at_once(tmp_path: Path) -> None:
    write_yaml(tmp_path, training__num_stps=3, compare__rows=[*ROWS, {**SEARCHED, "search": {"trils": 2}}])
    refused = run_command("tuner.compare", "--space", "tiny.yaml", folder=tmp_path)
    assert refused.code == 2
    assert "Traceback" not in refused.out + refused.err
    assert re.search(r"error: tiny\.yaml:\d+: training\.num_stps: expected ", refused.err)
    assert re.search(r"error: tiny\.yaml:\d+: compare\.rows\[2\]\.search\.trils: expected ", refused.err)
    assert not (tmp_path / "experiments").exists()
