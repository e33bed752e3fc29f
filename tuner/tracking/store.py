"""The store that searches are recorded in: which one it is, whether it can be written, and what is found in it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from trainables.errors import BadInput, Problem
from tuner.redaction import reason, without_credentials

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
STORES = (*DATABASES, "http", "https", "databricks")
A_STORE = "sqlite:///<file>, http(s)://<server> or a postgresql, mysql or mssql database, reachable and writable"

# The UI opens an experiment of this kind on its training runs and their charts, others on traces of language models.
SHOWN_AS_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


def tracking_uri(configured: str | None) -> str:
    """Where to record: `configured`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

    A sqlite path is made absolute, because trials and later commands run in other folders.
    """
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = _sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def check_store(uri: str) -> None:
    """Whether `uri` can be recorded in, without making anything there.

    Raises:
        BadInput: if it cannot be reached or written, in seconds rather than after MLflow's minutes of retries.
    """
    with _refusals(uri), _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="5"):
        file = _sqlite_file(uri)
        if file is not None and not file.exists():
            _require_writable_parent(file)
        elif uri.startswith(DATABASES):
            _try_database(uri)
        else:
            MlflowClient(uri).search_experiments(max_results=1)


def prepare_store(uri: str, experiment: str) -> str:
    """Makes sure, before the first trial, that `uri` can be written and has the experiment. Returns its id.

    Creates the database where there is none: processes that meet a fresh sqlite file at once can break it for good.

    Raises:
        BadInput: as `check_store`, and where it can be read but not written.
    """
    with (
        _refusals(uri),
        _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="5"),
        _only_one(uri),
    ):
        if uri.startswith(DATABASES):
            _try_database(uri)
        client = MlflowClient(uri)
        experiment_id = ensure_experiment(client, uri, experiment)
        for tag, value in {"written_by": this_project(), **SHOWN_AS_TRAINING}.items():
            client.set_experiment_tag(experiment_id, tag, value)  # what can be read may still refuse this
        return experiment_id


def require_store(uri: str) -> None:
    """Raises where there is no store to read; MLflow would make an empty one."""
    file = _sqlite_file(uri)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    if uri.startswith(DATABASES):
        _try_database(uri)


def ensure_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment's id; it is made if it is not there, and brought back if it was deleted."""
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


def runs_with(client: MlflowClient, experiment_id: str, **tags: str) -> Iterator[Run]:
    """The runs with these tags, oldest first."""
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
    """MLflow's own would retry for four minutes a request. What the user has set stays."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    _quieten()


def this_project() -> str:
    """The project and its version, as pip spells it."""
    return f"smile-tuner=={version('smile-tuner')}"


@contextmanager
def _refusals(uri: str) -> Iterator[None]:
    """Whatever the store raises becomes the user's problem with their URI: each store and driver has its own errors."""
    _quieten()
    shown = without_credentials(uri)
    if uri.partition(":")[0].partition("+")[0] not in STORES:
        raise BadInput(Problem("tracking.uri", A_STORE, repr(shown)))
    try:
        yield
    except Exception as error:
        raise BadInput(Problem("tracking.uri", A_STORE, f"{shown!r}: {reason(error)}")) from None


def _require_writable_parent(file: Path) -> None:
    """The folder of a database that is yet to be made: it, or the nearest one above it, must take new files."""
    parent = next(folder for folder in file.parents if folder.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"not a folder: {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write in {parent}")


def _sqlite_file(uri: str) -> Path | None:
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match else None


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
    file = _sqlite_file(uri)
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


def _try_database(uri: str) -> None:
    """One honest attempt to open it. MLflow makes ten, over minutes."""
    timeout = {} if uri.startswith(("sqlite", "mssql")) else {"connect_timeout": 5}
    engine = sqlalchemy.create_engine(uri, connect_args=timeout)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _artifact_location(uri: str) -> str | None:
    """None where a server decides; else an absolute folder: MLflow's default is relative to whoever comes first."""
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        return None
    file = _sqlite_file(uri)
    return str((file.parent if file else Path.cwd()) / "mlartifacts")
