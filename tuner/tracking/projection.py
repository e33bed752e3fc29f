"""The journal of a search, carried over to MLflow event by event, as often as need be."""

from __future__ import annotations

import json
import logging
import math
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tuner.messages.redaction import reason, without_credentials
from tuner.record.events import Event
from tuner.record.history import History, TrialRecord, trial_id
from tuner.tracking.store import open_store, runs_with, tag_experiment, use_gentle_defaults
from tuner.tracking.ui_views import VIEW_TAG, view_of_trials

log = logging.getLogger("tuner.tracking")

CURSOR = "mlflow.json"
ARTIFACTS = ("space.yaml", "environment.json", "report.html", "best.yaml", "comparison.md", "comparison.html")
WITHOUT_CREDENTIALS = ("report.html",)
"""Of these, what has none because each of its texts was freed of them; in markup a secret's end could not be told."""
CELL_TAGS = ("row", "column", "seed")
PARENT = "search"
"""Key of the parent run among the runs of a search; the others go by their names."""

# Limits of the MLflow API. A batch may hold 1000 entities of all kinds together.
METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = TAGS_PER_BATCH = 100
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 5000
LONGEST_WAIT_S = 1.0
"""For how long what is to be sent is gathered, where much is behind."""
REFUSED = ("INVALID_PARAMETER_VALUE",)
TOO_LARGE = "failed with error code 413"
"""What a proxy in front of the server says of a request beyond its limit."""

DIED = "its process died"
DESCRIPTION = "mlflow.note.content"
"""The tag that the UI shows as a run's description, as Markdown."""

Point = tuple[str, float | None, int]
"""Key, value and step of a metric; None is a value that there is none of."""

Item = TypeVar("Item")
Entity = Metric | Param | RunTag
"""What a batch is made of."""


class Cursor(NamedTuple):
    """How far a store has been brought: the bytes of the journal that are in it, and which artifacts are."""

    uri: str
    experiment: str
    parent_run_id: str | None = None
    offset: int = 0
    uploaded: tuple[str, ...] = ()


class Projection:
    """Brings MLflow into line with the journal of one search or comparison.

    Not thread-safe; making one asks nothing of the store.
    """

    def __init__(self, uri: str, experiment: str, directory: Path) -> None:
        use_gentle_defaults()
        self._uri = uri
        self._experiment = experiment
        self._directory = directory
        self._journal = directory / "journal.jsonl"
        self._attached = False
        self._cursor = Cursor(without_credentials(uri), experiment)
        self._history = History()
        self._runs: dict[str, str] = {}
        self._waiting: dict[str, list[Entity]] = {}
        self._client: MlflowClient
        self._experiment_id: str

    @property
    def num_runs(self) -> int:
        """The runs that MLflow has of this search, as far as is known."""
        return len(self._runs)

    def forget(self) -> None:
        """Takes back what is known of the store: the next `advance` carries over every event."""
        self._attached = False
        (self._directory / CURSOR).unlink(missing_ok=True)

    def advance(self) -> int:
        """Carries over every event that MLflow lacks, and says how many those were.

        Raises what MLflow raises; the next call goes on from there. Only what MLflow refuses for good, and would refuse
        again, is left out, which the log then says.
        """
        if not self._attached and not self._attach():
            return 0
        before, num_events, end = self._cursor, 0, self._cursor.offset
        due_s = time.monotonic() + LONGEST_WAIT_S
        try:
            for event, end in _events_from(self._journal, before.offset):
                self._history.apply(event)
                self._project(event)
                num_events += 1
                if time.monotonic() >= due_s:
                    self._carry_over(end)
                    due_s = time.monotonic() + LONGEST_WAIT_S
            self._carry_over(end)
            self._upload_artifacts()
        except BaseException:
            self._attached = False  # history may be ahead, and a request that failed may have made a run
            self._waiting.clear()
            raise
        finally:
            if self._cursor != before:
                self._save_cursor()
        return num_events

    def end_what_died(self) -> bool:
        """Ends the runs of a search that was killed before it could say so; whether it was.

        To be called after `advance`, and only while no process runs the search. A search that goes on makes its runs
        run again.
        """
        if not self._attached or self._history.finished is not None:
            return False
        last = max(self._events(), key=lambda event: event["time_s"])
        for trial in self._history.trials.values():
            if trial.state == "running":
                self._abandon(trial, last, DIED)
        parent = self._run(PARENT, last)
        self._write(parent, tags={"why": DIED})
        self._end_run(parent, "KILLED", last)
        return True

    def _carry_over(self, end: int) -> None:
        """Sends what waits, which with it is all of the journal up to `end`."""
        for run_id in list(self._waiting):
            self._send(run_id)
        self._cursor = self._cursor._replace(offset=end, parent_run_id=self._runs.get(PARENT))

    def _events(self) -> Iterator[Event]:
        return (event for event, _ in _events_from(self._journal, 0))

    def _attach(self) -> bool:
        """Finds out what MLflow has of this search. False where there is no search yet."""
        first = next(_events_from(self._journal, 0), None)
        if first is None:
            return False
        self._client, self._experiment_id = open_store(self._uri, self._experiment)
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
        for run in runs_with(self._client, self._experiment_id, search_run=self._search_run):
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
            case "search_started" | "comparison_started":
                self._started(event)
            case "trial_started":
                self._trial_started(event)
            case "fold_finished":
                self._fold_finished(event)
            case "trial_finished":
                self._trial_finished(event)
            case "retrain_finished" | "retrain_failed":
                self._retrain_ended(event)
            case "model_registered":
                self._write(self._run(PARENT, event), tags={"model_uri": event["uri"]})
            case "search_finished":
                self._search_finished(event)
            case "cell_finished" | "cell_failed":
                self._cell_ended(event)
            case "comparison_finished":
                self._comparison_finished(event)

    def _started(self, event: Event) -> None:
        params = {**event.get("dimensions", {}), **event.get("params", {})}
        tags = {key: event[key] for key in CELL_TAGS if key in event}  # of a row's own search within a comparison
        self._open_run(PARENT, event["run"], event, tags, params)
        self._cursor = self._cursor._replace(uploaded=())
        if "dimensions" in event:
            num_folds = event.get("space", {}).get("search", {}).get("folds", 0)
            view = view_of_trials(num_folds, event["dimensions"])
            tag_experiment(self._client, self._experiment_id, VIEW_TAG, view)
        for trial in self._history.trials.values():
            if trial.state == "running":  # it was cut off with the search, and goes on with it
                run_id = self._trial_run({**event, "trial": trial.number})
                self._client.update_run(run_id, status="RUNNING")
                self._write(run_id, tags={"state": "running", "reason": ""})

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

    def _retrain_ended(self, event: Event) -> None:
        name, failed = f"retrain-seed-{event['seed']}", event["event"] == "retrain_failed"
        started = {**event, "time_s": event["time_s"] - event.get("duration_s", 0.0)}
        trial = self._history.trials.get(event.get("trial", -1))
        tags = {"retrain_seed": str(event["seed"]), "reason": event.get("reason", "")}
        tags |= {"of_trial": trial.trial_id} if trial else {}
        run_id = self._open_run(name, name, started, tags, trial.params if trial else {})
        metrics = [(key, event.get(key), 0) for key in ("test_top1", "duration_s")]
        self._write(run_id, _metrics([*metrics, *_curves(event)], event))
        self._end_run(run_id, "FAILED" if failed else "FINISHED", event)

    def _search_finished(self, event: Event) -> None:
        for trial in self._history.trials.values():
            if trial.state == "running":
                self._abandon(trial, event, "the search ended before the trial did")
        run_id = self._run(PARENT, event)
        best = event.get("best_trial")
        metrics = [(key, event.get(key), 0) for key in ("test_top1_mean", "test_top1_sd")]
        tags = {"why": str(event["why"]), "best_trial": "" if best is None else trial_id(best)}
        if best in self._history.trials and "row" not in (self._history.started or {}):
            tags[DESCRIPTION] = _described(self._history.trials[best], self._directory)
        self._write(run_id, _metrics([*metrics, ("duration_s", event.get("seconds"), 0)], event), tags)
        whole = "best_trial" in event  # a search that was cut off says only why
        self._end_run(run_id, "FINISHED" if whole else "KILLED", event)

    def _cell_ended(self, event: Event) -> None:
        tags = {key: str(event[key]) for key in CELL_TAGS}
        name, failed = _cell_name(tags), event["event"] == "cell_failed"
        started = {**event, "time_s": event["time_s"] - event.get("duration_s", 0.0)}
        run_id = self._open_run(name, name, started, {**tags, "reason": event.get("reason", "")}, event["config"])
        values = {"test_top1": event.get("test_top1"), "duration_s": event.get("duration_s")}
        points = [(key, value, 0) for key, value in (values | event.get("measures", {})).items()]
        self._write(run_id, _metrics([*points, *_curves(event)], event))
        self._end_run(run_id, "FAILED" if failed else "FINISHED", event)

    def _comparison_finished(self, event: Event) -> None:
        run_id = self._run(PARENT, event)
        self._write(run_id, _metrics([("duration_s", event.get("seconds"), 0)], event), {"why": str(event["why"])})
        self._end_run(run_id, "FINISHED" if "seconds" in event else "KILLED", event)
        self._cursor = self._cursor._replace(uploaded=())  # the tables have changed since they were last carried over

    def _abandon(self, trial: TrialRecord, event: Event, why: str) -> None:
        run_id = self._run(trial.trial_id, event)
        self._write(run_id, tags={"state": "failed", "reason": why})
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
            self._send(run_id)
            known = self._client.get_run(run_id).data.params
            self._client.update_run(run_id, status="RUNNING")
            self._write(run_id, tags=tags, params={k: text for k, text in texts.items() if k not in known})
            return run_id
        links = {} if key == PARENT else {"mlflow.parentRunId": self._run(PARENT, event)}
        all_tags = {"search_run": self._search_run, **links, **_redacted(tags, TAG_CHARACTERS)}
        run = self._client.create_run(self._experiment_id, _milliseconds(event), all_tags, name)
        self._runs[key] = run.info.run_id
        self._write(run.info.run_id, params=texts)
        return self._runs[key]

    def _end_run(self, run_id: str, status: str, event: Event) -> None:
        self._send(run_id)
        self._client.set_terminated(run_id, status, _milliseconds(event))

    def _write(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Has it sent with what else there is to say of the run: an event may be one of many that are behind."""
        self._waiting.setdefault(run_id, []).extend(
            [
                *metrics,
                *(Param(key, value) for key, value in _redacted(params or {}, PARAM_CHARACTERS).items()),
                *(RunTag(key, value) for key, value in _redacted(tags or {}, TAG_CHARACTERS).items()),
            ]
        )

    def _send(self, run_id: str) -> None:
        """As few requests as MLflow's limits allow: almost always one. Of several values of a tag, the last counts."""
        entities = self._waiting.pop(run_id, [])
        metrics = [entity for entity in entities if isinstance(entity, Metric)]
        params = {entity.key: entity for entity in entities if isinstance(entity, Param)}
        tags = {entity.key: entity for entity in entities if isinstance(entity, RunTag)}
        for batch in zip_longest(
            _chunks(metrics, METRICS_PER_BATCH),
            _chunks([*params.values()], PARAMS_PER_BATCH),
            _chunks([*tags.values()], TAGS_PER_BATCH),
            fillvalue=(),
        ):
            self._log(run_id, [entity for entities in batch for entity in entities])

    def _log(self, run_id: str, entities: Sequence[Entity]) -> None:
        """One request; where it is refused, as many as it takes to leave out nothing but what is refused."""
        metrics = [entity for entity in entities if isinstance(entity, Metric)]
        params = [entity for entity in entities if isinstance(entity, Param)]
        tags = [entity for entity in entities if isinstance(entity, RunTag)]
        try:
            self._client.log_batch(run_id, metrics, params, tags)
        except MlflowException as error:
            if not self._is_final(error, run_id):
                raise
            if len(entities) > 1:
                for half in _chunks(entities, (len(entities) + 1) // 2):
                    self._log(run_id, half)
            elif entities:
                log.warning("MLflow refuses %r of run %s: %s", entities[0].key, run_id, reason(error))

    def _is_final(self, error: MlflowException, run_id: str) -> bool:
        """Whether the request itself is refused, and not because somebody deleted its run, which can be made anew."""
        if error.error_code not in REFUSED and TOO_LARGE not in str(error):
            return False
        return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")

    def _upload_artifacts(self) -> None:
        """The files that are there and not yet in the store, after the events: a store for files that is away must not
        hold them up."""
        for name in ARTIFACTS:
            file = self._directory / name
            if PARENT not in self._runs or not file.exists():
                continue
            version = f"{name} {file.stat().st_mtime_ns}"  # a report is written anew whenever there is more to report
            if version not in self._cursor.uploaded:
                text = file.read_text(encoding="utf-8")
                text = text if name in WITHOUT_CREDENTIALS else without_credentials(text)
                try:
                    self._client.log_text(self._runs[PARENT], text, name)
                except MlflowException as error:
                    if not self._is_final(error, self._runs[PARENT]):
                        raise
                    log.warning("MLflow refuses the artifact %s: %s", name, reason(error))
                self._cursor = self._cursor._replace(uploaded=(*self._cursor.uploaded, version))


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


def _key(tags: Mapping[str, str]) -> str:
    """What a run is called in `Projection._runs`, from its tags."""
    if "seed" in tags:
        return _cell_name(tags)
    if "retrain_seed" in tags:
        return f"retrain-seed-{tags['retrain_seed']}"
    return tags.get("trial_id", PARENT)


def _cell_name(tags: Mapping[str, str]) -> str:
    return f"{tags['row']} | {tags['column']} | seed {tags['seed']}"


def _curves(result: Mapping[str, Any], prefix: str = "") -> Iterator[Point]:
    for term, values in result.get("loss_terms", {}).items():
        for step, value in zip(result["loss_steps"], values, strict=True):
            yield f"{prefix}loss/{term}", value, step


def _metrics(points: Iterable[Point], event: Event) -> list[Metric]:
    time_ms = _milliseconds(event)
    return [Metric(key, _storable(value), time_ms, step) for key, value, step in points if value is not None]


def _storable(value: float) -> float:
    return value if math.isfinite(value) else math.nan  # MLflow would make 1.8e308 of an infinity


def _milliseconds(event: Event) -> int:
    return int(1000 * event["time_s"])


def _best_so_far(history: History) -> Point:
    scores = [trial.val_top1 for trial in history.trials.values() if trial.val_top1 is not None]
    finished = sum(trial.state != "running" for trial in history.trials.values())
    return "best_val_top1", max(scores, default=None), finished


def _described(best: TrialRecord, directory: Path) -> str:
    """What a person wants to know who opens the search in the UI."""
    score = "" if best.val_top1 is None else f", validation top-1 {best.val_top1:.4f}"
    params = "".join(f"- {name}: `{_text(value)}`\n" for name, value in best.params.items())
    return (
        f"Best: **{best.trial_id}**{score}\n\n{params}\n"
        f"`report.html` among the artifacts shows the whole search; `best.yaml` runs the best alone.\n\n"
        f"    python -m tuner.search --resume {shlex.quote(str(directory))}\n"
    )


def _tags_of(key: str) -> dict[str, str]:
    return {} if key == PARENT else {"trial_id": key, "state": "running"}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _redacted(texts: Mapping[str, str], max_characters: int) -> dict[str, str]:
    return {key: without_credentials(value)[:max_characters] for key, value in texts.items()}


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
