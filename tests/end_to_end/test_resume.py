"""One search that is cut off twice, the first time with the machine that it ran on, and comes to what it would have.

The driver is killed, and all that was on its disk is lost; another machine goes on from the copy on an S3 server, and
is stopped by Ctrl-C; the last start ends it. MLflow's store outlives the machine, as a laboratory's server would.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from tests.end_to_end.commands import Run, ended, run_command, start_process, wait_until
from tests.end_to_end.processes import came_true, marked_processes, training_processes
from tests.end_to_end.records import (
    Event,
    events_below,
    events_in,
    fold_numbers,
    trials_of,
    trials_started,
    was_interrupted,
)
from tests.end_to_end.space import write_space
from tests.marks import MLFLOW_LEAKS
from tuner.record.mirror import Mirror

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]

URI = "s3://lab/runs"
KEYS = {"AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "lovelace", "AWS_REGION": "eu-central-1"}
MARK = "LOST_MACHINE"
GONE_S = 120.0
"""How long processes may outlive their driver. Two agents of Ray's try for 61 s to tell a dead cluster that it is."""


@dataclass(frozen=True)
class Bucket:
    """A bucket on an S3 server of its own, and the environment that says how to reach it."""

    mirror: Mirror
    environment: dict[str, str]

    def events(self) -> list[Event]:
        """What the copy of the newest run says."""
        run = self.mirror.newest_run("tiny")
        return [] if run is None else events_in(self.mirror.get(f"tiny/{run}/journal.jsonl"))


@contextmanager
def s3_server(home: Path) -> Iterator[dict[str, str]]:
    """Starts a server with the bucket `lab`; gives the environment that it is reached by."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: has_made_bucket(f"{address}/lab"), server)
            yield {"AWS_ENDPOINT_URL": address, "HOME": str(home), **KEYS}
        finally:
            server.kill()


def has_made_bucket(url: str) -> bool:
    try:
        with urlopen(Request(url, method="PUT")):
            return True
    except URLError:
        return False


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    pytest.importorskip("moto", reason="needs the S3 server of moto")
    with s3_server(tmp_path_factory.mktemp("home")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Bucket(Mirror.open(URI), environment)


@dataclass(frozen=True)
class Story:
    """The three starts. `copied` is what the copy said when the first machine was lost; `before` what the record said
    after Ctrl-C; `store` the URI of MLflow's store."""

    copied: list[Event]
    interrupted: Run
    before: list[Event]
    resumed: Run
    store: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, photos: Path, bucket: Bucket) -> Story:
    lost, other = tmp_path_factory.mktemp("lost"), tmp_path_factory.mktemp("other")
    store = f"sqlite:///{tmp_path_factory.mktemp('laboratory') / 'mlflow.db'}"
    for machine in (lost, other):
        write_space(machine, photos, tracking={"mirror": URI, "uri": store})
    arguments = ("tuner.search", "--space", "tiny.yaml")

    first = start_process(*arguments, "--trials", "2", folder=lost, environment=bucket.environment | {MARK: "1"})
    # A look at the disk costs little; one at the server, twenty times a second, would take the search's core.
    wait_until(lambda: fold_numbers(events_below(lost)) != [], first)
    wait_until(lambda: fold_numbers(bucket.events()) != [], first)
    first.kill()
    first.communicate()
    assert came_true(lambda: not training_processes(f"{MARK}=1"), GONE_S)
    shutil.rmtree(lost, ignore_errors=True)  # what is left of Ray may still write
    copied = bucket.events()

    second = start_process(*arguments, "--resume", folder=other, environment=bucket.environment)
    wait_until(lambda: len(fold_numbers(events_below(other))) > len(fold_numbers(copied)), second)
    os.killpg(second.pid, signal.SIGINT)  # as a terminal does it: to all processes in the foreground
    interrupted = ended(second, other)
    before = interrupted.events

    resumed = run_command(
        *arguments, "--resume", "--json", "outcome.json", folder=other, environment=bucket.environment
    )
    return Story(copied, interrupted, before, resumed, store)


def test_another_machine_goes_on_from_the_copy(story: Story) -> None:
    assert fold_numbers(story.copied)
    assert f"the search is copied from {URI}/tiny/" in story.interrupted.out
    assert story.before[: len(story.copied)] == story.copied


def test_ctrl_c_says_how_to_go_on(story: Story) -> None:
    run = story.interrupted
    assert run.code == 1, run.out + run.err
    assert "Traceback" not in run.out + run.err
    assert "interrupted: every finished fold is kept" in run.out
    assert f"python -m tuner.report {run.directory}" in run.out
    assert f"python -m tuner.search --space {run.directory / 'space.yaml'} --resume" in run.out
    assert was_interrupted(story.before)


def test_an_interrupted_search_has_no_report(story: Story) -> None:
    """None is written, and none is spoken of but in how to have one."""
    assert "report" not in story.interrupted.out.replace("python -m tuner.report", "")


def test_no_fold_is_trained_twice_and_what_was_finished_is_kept(story: Story) -> None:
    assert story.resumed.code == 0, story.resumed.out + story.resumed.err
    events = story.resumed.events
    assert events[: len(story.before)] == story.before
    assert len(fold_numbers(story.before)) < 6
    assert sorted(trials_started(events)) == [0, 1, 2]
    assert fold_numbers(events) == [(trial, fold) for trial in range(3) for fold in (1, 2)]
    assert story.resumed.outcome["trials"] == {"running": 0, "complete": 3, "pruned": 0, "failed": 0}


def test_it_comes_to_what_an_undisturbed_search_comes_to(story: Story, finished: Run) -> None:
    assert trials_of(story.resumed.events) == trials_of(finished.events)
    keys = ("best_trial", "best_params", "fold_scores", "test_scores")
    assert {key: story.resumed.outcome[key] for key in keys} == {key: finished.outcome[key] for key in keys}


def test_mlflow_has_each_run_once_and_none_still_running(story: Story) -> None:
    client = MlflowClient(story.store)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs: list[MlflowRun] = client.search_runs([experiment.experiment_id])
    seeds = [f"retrain-seed-{seed}" for seed in range(2)]
    expected = [story.resumed.directory.name, *seeds, *(f"trial-{number:04d}" for number in range(3))]
    assert Counter(run.info.run_name for run in runs) == Counter(expected)
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_copy_has_everything_but_what_is_of_one_machine(story: Story, bucket: Bucket) -> None:
    assert bucket.events() == story.resumed.events
    files = set(bucket.mirror.files(f"tiny/{story.resumed.directory.name}"))
    assert {"journal.jsonl", "space.yaml", "report.html", "best.yaml"} <= files
    assert any(name.startswith("model/") for name in files)
    assert not any(name.startswith(("checkpoints/", "ray/")) or name.endswith("lock") for name in files)
    written = (path for path in story.resumed.folder.rglob("*") if path.is_file())
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in "".join(path.read_text(errors="replace") for path in written)


def test_a_report_follows_a_search_that_goes_on(story: Story) -> None:
    assert "3 of 3" in (story.resumed.directory / "report.html").read_text(encoding="utf-8")


def test_a_killed_driver_leaves_no_process_behind(story: Story) -> None:
    assert came_true(lambda: not marked_processes(f"{MARK}=1"), GONE_S), marked_processes(f"{MARK}=1")


def test_a_bucket_that_is_not_there_is_refused(bucket: Bucket, photos: Path, tmp_path: Path) -> None:
    write_space(tmp_path, photos, tracking={"mirror": "s3://none/x"})
    refused = run_command("tuner.search", "--space", "tiny.yaml", folder=tmp_path, environment=bucket.environment)
    assert refused.code == 2
    expected = r"error: tiny\.yaml:\d+: tracking\.mirror: expected an object store that can be written, got s3://none/x"
    assert re.match(expected, refused.err)
    assert "Traceback" not in refused.err
    assert not (tmp_path / "experiments" / "tiny").exists()
