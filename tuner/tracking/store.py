"""Opens MLflow stores: checks that one can be written, makes databases and experiments, finds runs by their tags.

MLflow and SQLAlchemy are imported where they are used: checking a store that is a file needs neither.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import BadInput, Problem
from trainables.paths import why_not_writable
from tuner.experiment.settings import sqlite_file
from tuner.messages.redaction import reason, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
EXPERIMENTS_TABLE = "experiments"
"""Table that every database of MLflow has."""
SERVERS = ("http://", "https://")
STORES = (*DATABASES, "http", "https", "databricks")
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""For the first request to a store: it is there within seconds, or it is away."""
A_STORE = "sqlite:///<file>, http(s)://<server> or a postgresql, mysql or mssql database, reachable and writable"

AWAY = re.compile(
    r"refused|timed out|timeout|no route to host|unreachable|reset by peer|remote end closed|temporary failure"
    r"|server closed|lost connection|starting up|shutting down|too many|database is locked|(database|disk) is full"
    r"|no space left|TEMPORARILY_UNAVAILABLE: |INTERNAL_ERROR: |failed with error code (429|5\d\d)",
    re.IGNORECASE,
)
"""Messages of servers, databases and their clients where trying again later will help. MLflow wraps most errors into
one class, so that only their messages tell an outage from a mistake; an unknown host name is a mistake."""
AWAY_STATUSES = (408, 425, 429)
"""Statuses of HTTP, besides those from 500 on, with which a server asks for patience."""

# MLflow's word for experiments that train; the UI of 3.17 opens them as all others, and so `ui_views` has links.
SHOWN_AS_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


class _NotNow(Exception):
    """Answer of a server that it cannot serve for now."""


class StoreAway(BadInput):
    """The store is down, slow or full, which may pass. A search can be recorded in it later."""


def check_store(uri: str, where: str = "tracking.uri") -> None:
    """Checks that a search can be recorded in the store at `uri`, now or once it is back. Makes nothing there.

    `where` is the key, flag or environment variable that says `uri`.

    Raises:
        BadInput: if it never can, in seconds rather than after MLflow's minutes of retries.
    """
    with suppress(StoreAway), _refusals(uri, where), _environment(**IMPATIENT):
        file = sqlite_file(uri)
        if file is not None:
            _require_writable(file)
        if uri.startswith(DATABASES) and (file is None or file.exists()):
            _try_database(uri)
        elif uri.startswith(SERVERS):
            _ask_server(uri)
        elif file is None:
            _client(uri).search_experiments(max_results=1)


def prepare_store(uri: str, experiment: str, where: str = "tracking.uri") -> str:
    """Makes sure, before the first trial, that `uri` can be written and has the experiment. Returns its id.

    Creates the database where there is none: processes that meet a fresh sqlite file at once can break it for good.

    Raises:
        StoreAway: where it does not answer, or says that it cannot for now.
        BadInput: as `check_store`, and where it can be read but not written.
    """
    with _refusals(uri, where), _environment(**IMPATIENT):
        if uri.startswith(SERVERS):
            _ask_server(uri)
        return open_store(uri, experiment)[1]


def open_store(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Returns a client, and the experiment's id; makes database and experiment where there are none.

    Raises what MLflow raises.
    """
    with _only_one(uri):
        if uri.startswith(DATABASES):
            _try_database(uri)
        client = _client(uri)
        experiment_id = ensure_experiment(client, uri, experiment)
        for tag, value in {"written_by": project_requirement(), **SHOWN_AS_TRAINING}.items():
            tag_experiment(client, experiment_id, tag, value)  # what can be read may still refuse this
        return client, experiment_id


def require_store(uri: str) -> None:
    """Checks that there is a store to read, where MLflow would make an empty one. Raises OSError or what SQLAlchemy
    raises."""
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    if uri.startswith(DATABASES):
        _try_database(uri)


def check_is_store(uri: str, where: str = "tracking.uri") -> None:
    """Checks that a database has been made by MLflow: opening it would make an empty store, or MLflow's tables beside
    others.

    Raises:
        BadInput: at `where`, if it has not.
    """
    with _refusals(uri, where):
        file = sqlite_file(uri)
        is_there = file is None or file.is_file()
        if is_there and (not uri.startswith(DATABASES) or EXPERIMENTS_TABLE in _try_database(uri)):
            return
    got = "a database without MLflow's tables" if is_there else "no such file"
    raise BadInput(Problem(where, "a store that a search has made", f"{without_credentials(uri)!r}: {got}"))


def ensure_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Returns the experiment's id; makes it if it is not there, and restores it if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, _artifact_location(uri)))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another search may have been a moment faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def tag_experiment(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
    """Sets a tag that other searches may be setting at this moment: the last one stands.

    MLflow looks whether the tag is there and then inserts it, so that of two at once one is told that it exists.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment_id, key, value)
    except MlflowException:
        tags = client.get_experiment(experiment_id).tags
        if key not in tags:
            raise
        if tags[key] != value:
            client.set_experiment_tag(experiment_id, key, value)  # changes it, as it is there now


def runs_with(client: MlflowClient, experiment_id: str, **tags: str) -> Iterator[Run]:
    """Yields the runs with these tags, oldest first."""
    conditions = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], conditions, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def use_gentle_defaults() -> None:
    """Sets few retries and short timeouts for MLflow's requests, where the user has set none.

    MLflow's own would retry for four minutes a request.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    _quieten()


def project_requirement() -> str:
    """Requirement of this version of the project, as pip writes it."""
    return f"smile-tuner=={version('smile-tuner')}"


@contextmanager
def _refusals(uri: str, where: str) -> Iterator[None]:
    """Converts every error of the block to BadInput of `where`: each store and driver has errors of its own."""
    shown = without_credentials(uri)
    is_memory = uri.startswith("sqlite") and (sqlite_file(uri) is None or ":memory:" in uri)
    if uri.partition(":")[0].partition("+")[0] not in STORES or is_memory:
        raise BadInput(Problem(where, A_STORE, repr(shown)))
    try:
        yield
    except Exception as error:
        refused = StoreAway if isinstance(error, _NotNow) or AWAY.search(str(error)) else BadInput
        raise refused(Problem(where, A_STORE, f"{shown!r}: {reason(error)}")) from None


def _ask_server(uri: str) -> None:
    """Asks a server for one experiment, and judges it by the status of its answer. MLflow's client takes every error
    that comes as JSON for one of MLflow's own, so that a wrong address would be a server that is away.

    Raises:
        _NotNow: if it cannot serve for now.
        ValueError: if no server of MLflow is there, or it refuses the request.
        OSError: if none answers.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    _quieten()
    answer = http_request(  # type: ignore[no-untyped-call]
        get_default_host_creds(uri),  # type: ignore[no-untyped-call]
        "/api/2.0/mlflow/experiments/search",
        "POST",
        json={"max_results": 1},
        raise_on_status=False,
    )
    status = f"it answers {answer.status_code} {answer.reason}".rstrip()
    if answer.status_code in AWAY_STATUSES or answer.status_code >= 500:
        raise _NotNow(status)
    if answer.status_code == 404:
        raise ValueError(f"{status}: there is no MLflow at this address")
    if answer.status_code != 200:
        raise ValueError(status)
    if not answer.text.lstrip().startswith("{"):
        raise ValueError("it answers with something else than MLflow does")


def _require_writable(file: Path) -> None:
    """Checks that a database can be made or changed: its folder takes new files, as SQLite's journal is one."""
    existing = file if os.path.lexists(file) else file.parent
    if file.is_dir():
        raise IsADirectoryError(f"a folder: {file}")
    if file.exists() and not file.is_file():
        raise OSError(f"a device: {file}")
    if file.exists() and not os.access(file, os.W_OK):
        raise PermissionError(f"no permission to write to {file}")
    if said := why_not_writable(existing.parent if existing == file else existing):
        raise OSError(f"no database can be made there: {said}")


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    _quieten()  # after the import, which sets the level of MLflow's logger
    return MlflowClient(uri)


def _quieten() -> None:
    """Keeps MLflow from printing progress into the middle of ours; warnings remain."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)


@contextmanager
def _environment(**defaults: str) -> Iterator[None]:
    """Sets variables for the block where the user has not set them."""
    ours = {key: value for key, value in defaults.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)


@contextmanager
def _only_one(uri: str) -> Iterator[None]:
    """Keeps other searches that start at this moment from creating the same sqlite file."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _try_database(uri: str) -> list[str]:
    """Tries once to open a database, and returns the names of its tables. MLflow tries ten times, over minutes."""
    import sqlalchemy

    timeout = {} if uri.startswith(("sqlite", "mssql")) else {"connect_timeout": 5}
    engine = sqlalchemy.create_engine(uri, connect_args=timeout)
    try:
        return list(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _artifact_location(uri: str) -> str | None:
    """Absolute folder of an experiment's artifacts; None where a server decides.

    MLflow's default would be relative to the working folder of the first process.
    """
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        return None
    file = sqlite_file(uri)
    return str((file.parent if file else Path.cwd()) / "mlartifacts")
