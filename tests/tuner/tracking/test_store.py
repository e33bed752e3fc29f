"""Where a search is recorded, and what is said where that cannot be."""

from __future__ import annotations

import itertools
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import DEAD, NAME
from trainables.errors import BadInput
from tuner.experiment.settings import tracking_uri
from tuner.tracking.store import IMPATIENT, StoreAway, check_is_store, check_store, prepare_store, tag_experiment

pytestmark = MLFLOW_LEAKS


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
    ("bad", "got"),
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
    bad: str, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_database.db").write_text("no database, but long enough to look like a header of one" * 20)
    with pytest.raises(BadInput) as raised:
        prepare_store(bad, NAME)
    (problem,) = raised.value.problems
    assert problem.where == "tracking.uri"
    assert problem.got.startswith(got)
    assert "\n" not in str(problem)
    assert "hunter2" not in str(problem)


def answering(status: int, body: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    return Handler


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), answering(*request.param)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_only_a_database_of_mlflow_is_a_store(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--here: expected a store that a search has made, got .*: no such file"):
        check_is_store(f"sqlite:///{tmp_path}/none.db", "--here")
    assert not (tmp_path / "none.db").exists()
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE cooking_recipes (name TEXT)")
    other.close()
    with pytest.raises(BadInput, match=r"got .*: a database without MLflow's tables"):
        check_is_store(f"sqlite:///{tmp_path}/other.db")
    prepare_store(uri, NAME)
    check_is_store(uri)


class TestAStoreThatIsAway:
    """It may be back later, so that a search can start without it."""

    @pytest.mark.parametrize("server", [(503, b"away"), (429, b"slowly"), (500, b"{}")], indirect=True)
    def test_a_server_that_answers_so(self, server: str) -> None:
        check_store(server)
        with pytest.raises(StoreAway):
            prepare_store(server, NAME)

    def test_a_server_that_is_not_there(self) -> None:
        check_store(DEAD)
        with pytest.raises(StoreAway):
            prepare_store(DEAD, NAME)

    @pytest.mark.parametrize("said", ["database is locked", "database or disk is full"])
    def test_a_file_that_is_busy_or_full(self, said: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(said))

        monkeypatch.setattr("tuner.tracking.store._try_database", fail)
        with pytest.raises(StoreAway):
            prepare_store(uri, NAME)

    @pytest.mark.parametrize(
        "server",
        [
            (404, b"what?"),
            (404, b'{"detail": "Not Found"}'),
            (405, b'{"error": "no POST here"}'),
            (200, b"<html>hello</html>"),
            (401, b"who?"),
            (403, b'{"error_code": "PERMISSION_DENIED"}'),
        ],
        indirect=True,
    )
    def test_a_server_that_is_none_of_mlflow_or_wants_a_password_is_a_mistake(self, server: str) -> None:
        for ask in (check_store, lambda uri: prepare_store(uri, NAME)):
            with pytest.raises(BadInput) as refused:
                ask(server)
            assert not isinstance(refused.value, StoreAway)

    @pytest.mark.parametrize("server", [(404, b'{"detail": "Not Found"}')], indirect=True)
    def test_an_address_without_mlflow_is_said_with_its_status_and_where_it_is_from(self, server: str) -> None:
        with pytest.raises(BadInput) as refused:
            check_store(server, "MLFLOW_TRACKING_URI")
        (problem,) = refused.value.problems
        assert problem.where == "MLFLOW_TRACKING_URI"
        assert problem.got == f"'{server}': it answers 404 Not Found: there is no MLflow at this address"

    @pytest.mark.parametrize("uri", ["http://127.0.0.1:port", "http:///x", "htp://host", "sqlite:////dev/null/x.db"])
    def test_a_malformed_one_is_a_mistake(self, uri: str) -> None:
        with pytest.raises(BadInput) as refused:
            prepare_store(uri, NAME)
        assert not isinstance(refused.value, StoreAway)


@pytest.mark.slow
def test_a_server_that_never_answers_is_asked_once_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in IMPATIENT:  # what a search in this process may have set for its own requests
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(StoreAway, match=r"tracking\.uri.*ReadTimeoutError"):
            prepare_store(f"http://127.0.0.1:{silent.getsockname()[1]}", NAME)
        assert connections(silent) == 1
    assert not IMPATIENT.keys() & os.environ.keys()


def connections(server: socket.socket) -> int:
    """How often a server that has not yet accepted anyone was called."""
    server.setblocking(False)
    for count in itertools.count():
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError


def test_a_tag_that_another_search_has_just_set_is_there(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server answered one of eight that had started at once."""
    said = "BAD_REQUEST: UNIQUE constraint failed: experiment_tags.key, experiment_tags.experiment_id"

    def refused(*_: Any) -> None:
        raise MlflowException(said)

    experiment = prepare_store(uri, NAME)
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refused)
    assert prepare_store(uri, NAME) == experiment
    with pytest.raises(BadInput, match="UNIQUE"):
        prepare_store(uri, "another")


def test_a_tag_that_another_search_has_just_set_otherwise_is_changed(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look, both see none, both insert: the slower one is refused once, and then finds what it can change."""
    experiment = prepare_store(uri, NAME)
    set_tag = MlflowClient.set_experiment_tag
    values = iter(["of the faster one"])

    def beaten(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
        if (first := next(values, None)) is not None:
            set_tag(client, experiment_id, key, first)
            raise MlflowException("BAD_REQUEST: UNIQUE constraint failed: experiment_tags.key")
        set_tag(client, experiment_id, key, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", beaten)
    tag_experiment(MlflowClient(uri), experiment, "view", "of the slower one")
    assert MlflowClient(uri).get_experiment(experiment).tags["view"] == "of the slower one"
