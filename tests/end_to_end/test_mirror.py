"""A machine is lost with everything on its disk, and another one goes on from the copy on an S3 server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.end_to_end.conftest import clean_environment, give, wait_until
from tests.tuner.tiny import write_yaml
from tuner.record.events import Event, read_events
from tuner.record.mirror import Mirror

pytestmark = pytest.mark.slow

URI = "s3://lab/runs"
SPACE = {
    "search": {"trials": 3, "folds": 2, "concurrency": 1, "racing": {"rule": "none"}},
    "training": {"num_steps": 40, "batch_size": 8, "learning_rate": 0.01},
    "retrain": {"seeds": 1},
    "tracking": {"mirror": URI},
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    """A server of its own, a bucket in it, and an environment that says how to reach it."""
    pytest.importorskip("moto", reason="needs the S3 server of moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "lovelace", "AWS_REGION": "eu-central-1"}
    for name, value in {"AWS_ENDPOINT_URL": address, "HOME": str(tmp_path), **keys}.items():
        monkeypatch.setenv(name, value)
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        wait_until(lambda: has_made_bucket(f"{address}/lab"), server)
        yield Mirror.open(URI)
        server.kill()


def has_made_bucket(url: str) -> bool:
    try:
        with urlopen(Request(url, method="PUT")):
            return True
    except URLError:
        return False


def events_of(mirror: Mirror) -> list[Event]:
    run = mirror.newest_run("tiny")
    return [] if run is None else [json.loads(line) for line in mirror.get(f"tiny/{run}/journal.jsonl").splitlines()]


def events_here(folder: Path) -> list[Event]:
    return [event for journal in folder.glob("experiments/tiny/*/journal.jsonl") for event in read_events(journal)]


def folds_in(events: list[Event]) -> list[tuple[int, int]]:
    return [(event["trial"], event["result"]["fold"]) for event in events if event["event"] == "fold_finished"]


def test_another_machine_goes_on_without_training_a_fold_twice(s3: Mirror, tmp_path: Path) -> None:
    lost, other = tmp_path / "lost", tmp_path / "other"
    for machine in (lost, other):
        machine.mkdir()
        write_yaml(machine, **SPACE)
    command = [sys.executable, "-m", "tuner.search", "--space", "tiny.yaml"]
    with subprocess.Popen(
        command, cwd=lost, env=clean_environment(), stdout=subprocess.DEVNULL, start_new_session=True
    ) as search:
        # A look at the disk costs little; one at the server, twenty times a second, would take the search's core.
        wait_until(lambda: folds_in(events_here(lost)) != [], search)
        wait_until(lambda: folds_in(events_of(s3)) != [], search)
        os.killpg(search.pid, signal.SIGKILL)
    shutil.rmtree(lost)
    before = events_of(s3)
    assert len(folds_in(before)) < 6

    resumed = give("tuner.search", "--space", "tiny.yaml", "--resume", "--json", "outcome.json", folder=other)
    assert resumed.code == 0, resumed.out + resumed.err
    assert f"the search is copied from {URI}/tiny/" in resumed.out
    assert resumed.events[: len(before)] == before
    assert folds_in(resumed.events) == [(trial, fold) for trial in range(3) for fold in (1, 2)]
    assert resumed.outcome["trials"]["complete"] == 3
    assert events_of(s3) == resumed.events
    files = set(s3.files(f"tiny/{resumed.directory.name}"))
    assert {"journal.jsonl", "space.yaml", "report.html", "best.yaml"} <= files
    assert any(name.startswith("model/") for name in files)
    assert not any(name.startswith(("checkpoints/", "ray/")) or name.endswith("lock") for name in files)
    assert "lovelace" not in "".join(path.read_text(errors="replace") for path in other.rglob("*") if path.is_file())


def test_a_bucket_that_is_not_there_is_refused(s3: Mirror, tmp_path: Path) -> None:
    write_yaml(tmp_path, **SPACE)
    refused = give("tuner.search", "--space", "tiny.yaml", "--set", "tracking.mirror=s3://none/x", folder=tmp_path)
    assert refused.code == 2
    assert refused.err.startswith("error: tracking.mirror: a place that can be written, got s3://none/x")
    assert "Traceback" not in refused.err
    assert not (tmp_path / "experiments" / "tiny").exists()
