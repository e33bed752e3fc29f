"""Where a search is recorded, and what is said where that cannot be."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.tuner.tracking.searches import DEAD, MLFLOW_WARNINGS, NAME
from trainables.errors import BadInput
from tuner.tracking import prepare_store, tracking_uri

pytestmark = MLFLOW_WARNINGS


def test_the_store_is_the_configured_one_or_the_environments_or_a_file_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri("sqlite:///deep/er.db") == f"sqlite:///{tmp_path}/deep/er.db"
    assert tracking_uri("sqlite:////abs/er.db") == "sqlite:////abs/er.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(None) == "http://server:5000"
    assert tracking_uri("https://other") == "https://other"


def test_preparing_makes_the_experiment_once(uri: str, tmp_path: Path) -> None:
    first = prepare_store(uri, NAME)
    assert prepare_store(uri, NAME) == first
    client = MlflowClient(uri)
    assert client.get_experiment(first).artifact_location == str(tmp_path / "mlartifacts")
    client.delete_experiment(first)
    assert prepare_store(uri, NAME) == first
    assert client.get_experiment(first).lifecycle_stage == "active"


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        ("ftp://robot:hunter2@host/x", "'ftp://host/x'"),
        ("./mlruns", "'./mlruns'"),
        ("file:///tmp/mlruns", "'file:///tmp/mlruns'"),
        (DEAD, "'http://127.0.0.1:9': API request to http://127.0.0.1:9"),
        ("sqlite:////dev/null/mlflow.db", "'sqlite:////dev/null/mlflow.db': [Errno 17] File exists: '/dev/null'"),
        ("postgresql+nodriver://robot:hunter2@host/x", "'postgresql+nodriver://host/x': Can't load plugin"),
        ("sqlite:///no_database.db", "'sqlite:///no_database.db': (sqlite3.DatabaseError) file is not a database"),
    ],
)
def test_a_store_that_cannot_be_written_is_bad_input(
    bad: str, came: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_database.db").write_text("no database, but long enough to look like a header of one" * 20)
    started = time.monotonic()
    with pytest.raises(BadInput) as raised:
        prepare_store(bad, NAME)
    (problem,) = raised.value.problems
    assert problem.where == "tracking.uri"
    assert problem.came.startswith(came)
    assert "\n" not in str(problem)
    assert "hunter2" not in str(problem)
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(BadInput, match=r"tracking\.uri"):
            prepare_store(f"http://127.0.0.1:{silent.getsockname()[1]}", NAME)
        assert time.monotonic() - started < 15
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
