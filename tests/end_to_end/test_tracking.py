"""MLflow away, coming back and shared; a search stopped and gone on with by name. Nothing is lost, nothing told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tracking import free_port, kill, mlflow_server
from tests.end_to_end.commands import DEADLINE_S, Run, ended, run_command, start_process, wait_until
from tests.end_to_end.forked import clean_environment
from tests.end_to_end.records import events_below, events_of, fold_numbers, metrics_of, trials_started
from tests.end_to_end.space import write_space
from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import (
    NAME,
    RUN,
    Store,
    finish_search,
    project,
    retrain,
    run_trial,
    start_search,
    ticking_journal,
    whole_search,
)
from tuner.record.background import BackgroundSync
from tuner.record.directory import RunDirectory
from tuner.tracking.projection import Projection

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", clean_environment())


def test_two_searches_that_start_a_store_at_once_lose_nothing(forks: ForkServerContext, tmp_path: Path) -> None:
    check_searches_at_once(forks, 2, f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["a fresh file", "server"])
def test_eight_searches_at_once_lose_nothing(kind: str, forks: ForkServerContext, tmp_path: Path) -> None:
    """By day: `test_two_searches_that_start_a_store_at_once_lose_nothing`."""
    if kind == "server":
        with mlflow_server("shared") as (port, _):
            check_searches_at_once(forks, 8, f"http://127.0.0.1:{port}", tmp_path)
    else:
        check_searches_at_once(forks, 8, f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


def check_searches_at_once(forks: ForkServerContext, num_searches: int, uri: str, folder: Path) -> None:
    """Carries over so many records, each from a process of its own, and looks for everything that they say."""
    directories = [RunDirectory(folder / f"run-{number}") for number in range(num_searches)]
    for directory in directories:
        with ticking_journal(directory) as journal:
            whole_search(journal, directory.run)
    all_at_once = forks.Barrier(num_searches)
    arguments = [(uri, directory, all_at_once) for directory in directories]
    processes = [forks.Process(target=project, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE_S)
    assert [process.exitcode for process in processes] == [0] * num_searches
    client = Store(uri).client
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len(runs) == 7 * num_searches
    for directory in directories:
        own = {run.info.run_name: run for run in runs if run.data.tags["search_run"] == directory.run}
        assert {run.info.status for run in own.values()} == {"FINISHED", "FAILED"}
        for metric in (metric for event in events_of(directory.path) for metric in metrics_of(event)):
            points = client.get_metric_history(own[metric.run_name].info.run_id, metric.key)
            assert sorted((point.step, point.value) for point in points) == metric.points


def test_a_server_that_comes_and_goes_has_everything_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down at the start, killed in mid-run, and back before the end: the search's own thread catches up."""
    monkeypatch.setattr("tuner.record.background.LAST_RETRY_S", 1.0)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with ticking_journal(RunDirectory(tmp_path / "run")) as journal:
        tracker = BackgroundSync(Projection(uri, NAME, journal.directory))
        journal.listeners.append(lambda event, history: tracker.notify())
        start_search(journal)
        run_trial(journal, 0, [0.7, 0.8])
        assert not tracker.flush(30)
        with mlflow_server("coming-and-going", port) as (_, server):
            wait_until(lambda: tracker.flush(30), server)
            assert Store(uri).runs.keys() == {RUN, "trial-0000"}
            kill(server)
        run_trial(journal, 1, [0.6, 0.9])
        retrain(journal, 0)
        assert not tracker.flush(30)
        with mlflow_server("coming-and-going", port) as (_, server):
            wait_until(lambda: tracker.flush(30), server)
            finish_search(journal)
            assert tracker.close(60)
            there = Store(uri).snapshot()
    assert there.keys() == {RUN, "trial-0000", "trial-0001", "retrain-seed-0"}
    assert {run[0] for run in there.values()} == {"FINISHED"}
    at_once = Store(f"sqlite:///{tmp_path}/at-once.db")
    Projection(f"sqlite:///{tmp_path}/at-once.db", NAME, RunDirectory(tmp_path / "run")).advance()
    assert comparable(there) == comparable(at_once.snapshot())


def comparable(snapshot: dict[str, Any]) -> dict[str, Any]:
    for run in snapshot.values():
        run[4].pop("mlflow.parentRunId", None)
    return snapshot


SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "robot-of-the-lab",
    "MLFLOW_TRACKING_PASSWORD": "pw-5f0c1a7d",
    "MLFLOW_TRACKING_TOKEN": "tok-77aa21c9",
    "AWS_ACCESS_KEY_ID": "AKIAHUNTER2HUNTER2",
    "AWS_SECRET_ACCESS_KEY": "aws/9d1e+secret",
    "AWS_SESSION_TOKEN": "session-31337-token",
}
URI_PASSWORD = "hunter2-of-the-uri"
AWAY = f"http://somebody:{URI_PASSWORD}@127.0.0.1:9"


@dataclass(frozen=True)
class Story:
    """A search whose server is away, that is stopped and gone on with by name: its folder, Ray's, and each command."""

    folder: Path
    ray: Path
    runs: dict[str, Run]

    def output(self, name: str) -> tuple[int, str]:
        """Exit code of a command, and all that it printed."""
        run = self.runs[name]
        return run.code, run.out + run.err


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("away")
    ray = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
    write_space(folder, photos)
    environment = SECRETS | {"RAY_TMPDIR": str(ray)}
    runs: dict[str, Run] = {}

    def run(name: str, *arguments: str) -> None:
        runs[name] = run_command(*arguments, folder=folder, environment=environment)

    more = ["--space", "tiny.yaml", "--trials", "2000"]  # it runs until it is stopped
    search = start_process("tuner.search", *more, "--tracking-uri", AWAY, folder=folder, environment=environment)
    wait_until(lambda: fold_numbers(events_below(folder)) != [], search)
    run("second start", "tuner.search", "--resume", "tiny", "--tracking-uri", AWAY)
    run("list", "tuner.list", "--json", "running.json")
    run("replay of what runs", "tuner.replay", "tiny", "--tracking-uri", "sqlite:///mlflow.db")
    run("stop", "tuner.stop", "tiny")
    runs["first"] = ended(search, folder)
    begun = len(trials_started(events_below(folder)))
    fewer = ["--trials", str(max(3, begun)), "--tracking-uri", AWAY, "--json", "outcome.json"]
    run("resume", "tuner.search", "--resume", "tiny", *fewer)
    run("list of the end", "tuner.list")
    run("replay", "tuner.replay", "tiny", "--tracking-uri", "sqlite:///mlflow.db")
    run("replay again", "tuner.replay", "tiny", "--tracking-uri", "sqlite:///mlflow.db", "--from-start")
    yield Story(folder, ray, runs)
    shutil.rmtree(ray)


def test_a_search_starts_without_its_server_and_says_so(story: Story) -> None:
    _, out = story.output("first")
    assert "MLflow is unreachable, 'http://127.0.0.1:9': API request to http://127.0.0.1:9" in out
    assert "the search starts without it; runs will be uploaded once it is reachable" in out


def test_a_second_start_is_refused_with_who_runs_it(story: Story) -> None:
    code, out = story.output("second start")
    assert code == 2, out
    assert "expected no other process at work on this search, got process " in out
    assert f" on {socket.gethostname()} (python -m tuner.stop " in out
    code, out = story.output("replay of what runs")
    assert (code, "no other process at work on this search" in out) == (2, True), out


def test_it_is_listed(story: Story) -> None:
    (running,) = json.loads((story.folder / "running.json").read_text())
    assert (running["name"], running["state"], running["num_asked"]) == ("tiny", "running", 2000)
    assert "finished" in story.output("list of the end")[1]


def test_stop_stops_it_as_ctrl_c_would(story: Story) -> None:
    code, out = story.output("stop")
    assert code == 0, out
    assert "has ended (interrupted); kept in " in out
    code, out = story.output("first")
    assert code == 1
    assert "interrupted: every finished fold is kept" in out
    assert "Traceback" not in out


def test_it_goes_on_by_name_and_ends_well_without_a_server(story: Story) -> None:
    code, out = story.output("resume")
    assert code == 0, out
    assert "the model is not registered" in out
    assert "MLflow is behind; sync it with: python -m tuner.replay " in out
    folds = fold_numbers(events_below(story.folder))
    assert len(folds) == len(set(folds))
    outcome = json.loads((story.folder / "outcome.json").read_text())
    assert outcome["trials"]["running"] == 0


def test_a_replay_brings_everything_and_the_model(story: Story) -> None:
    code, out = story.output("replay")
    assert code == 0, out
    assert "registered models:/tiny/1" in out
    store = Store(f"sqlite:///{story.folder}/mlflow.db", "tiny")
    outcome = json.loads((story.folder / "outcome.json").read_text())
    assert {run.info.status for run in store.runs.values()} == {"FINISHED"}
    assert store.runs[outcome["best_trial"]].data.metrics["val_top1"] == pytest.approx(outcome["val_top1"])
    assert int(store.client.get_model_version_by_alias("tiny", "champion").version) == 1
    code, out = story.output("replay again")
    assert code == 0, out
    assert "registered" not in out
    assert len(store.client.search_model_versions("name = 'tiny'")) == 1


def test_no_secret_is_in_any_file_or_said(story: Story) -> None:
    secrets = [value.encode() for value in (*SECRETS.values(), URI_PASSWORD)]
    said = {name: (run.out + run.err).encode() for name, run in story.runs.items()}
    files = [path for root in (story.folder, story.ray) for path in root.rglob("*") if path.is_file()]
    assert any(path.name == "driver.log" for path in files)
    assert any(path.name.startswith("raylet") for path in files)
    written = said | {str(path): path.read_bytes() for path in files}
    told = {(name, secret) for name, content in written.items() for secret in secrets if secret in content}
    assert told == set()
