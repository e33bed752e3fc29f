"""Writes runs to an MLflow experiment, within the limits of MLflow's API and in as few requests as they allow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tuner.messages.redaction import reason, without_credentials
from tuner.messages.wording import cell_name
from tuner.record.events import HardwareInspected, Outcome
from tuner.tracking.params import as_text
from tuner.tracking.points import Point, as_metrics, milliseconds
from tuner.tracking.store import runs_with, tag_experiment

log = logging.getLogger("tuner.tracking")

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

# Limits of the MLflow API. A batch may hold 1000 entities of all kinds together.
METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = TAGS_PER_BATCH = 100
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 5000
REFUSED = ("INVALID_PARAMETER_VALUE",)
"""Error codes of a request that MLflow would refuse again."""
TOO_LARGE = "failed with error code 413"
"""Part of the message where a proxy in front of the server refuses a request beyond its limit."""

RunKind = Literal["parent", "trial", "baseline", "retraining", "training"]
"""Value of the tag `kind`, by which the views of the UI filter: a search or comparison itself, and what is below it."""

ENSEMBLE = "ensemble"
"""Value of the tags of a seed at the run of an ensemble of all seeds."""

LATEST_TAG = "latest_search_s"
"""Tag of an experiment: when its latest search started, a Unix time. MLflow's own time of an update ignores tags."""

Entity = Metric | Param | RunTag
Item = TypeVar("Item")


class RunWriter:
    """Writes the runs of one search or comparison: a parent, named as the search's run, and its children.

    A run goes by the name that it was made with; `run_name` computes it from the tags, so that runs of an earlier
    process are found again, renamed in the UI or not. What is written waits until the run ends, or `send`: many events
    may have to be written at once. Every text is freed of credentials. Not thread-safe.

    Methods raise what MLflow raises. Only what MLflow refuses for good is left out, which the log then says.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, parent: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self.parent = parent
        self._run_ids: dict[str, str] = {}
        self._waiting: dict[str, list[Entity]] = {}
        for run in runs_with(client, experiment_id, search_run=parent):
            self._run_ids.setdefault(run_name(run.data.tags) or parent, run.info.run_id)

    @property
    def names(self) -> frozenset[str]:
        """Names of the runs that the store is known to have."""
        return frozenset(self._run_ids)

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        return self._experiment_id

    @property
    def parent_id(self) -> str | None:
        """MLflow's id of the parent run; None where there is none yet."""
        return self._run_ids.get(self.parent)

    def open(self, name: str, time_s: float, tags: Mapping[str, str], params: Mapping[str, Any] | None = None) -> None:
        """Makes a run that starts at `time_s`, a Unix time, or sets the one that is there running again.

        Of a run that is there only missing params are written: MLflow refuses to change one.
        """
        texts = {key: as_text(value) for key, value in (params or {}).items()}
        if name not in self._run_ids:
            self._create(name, time_s, tags)
            self._wait(name, params=texts)
            return
        self._send_run(name)
        run_id = self._run_ids[name]
        known = self._client.get_run(run_id).data.params if texts else {}
        self._client.update_run(run_id, status="RUNNING")
        missing = {key: text for key, text in texts.items() if key not in known}
        self._wait(name, tags={"kind": run_kind(tags), **tags}, params=missing)

    def ensure(self, name: str, time_s: float, tags: Mapping[str, str] | None = None) -> None:
        """Makes the run with `tags` if there is none, as where somebody has deleted it from the store."""
        if name not in self._run_ids:
            self._create(name, time_s, tags or {})

    def write(
        self, name: str, time_s: float, points: Iterable[Point] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        """Adds points of metrics, all of time `time_s`, and tags to a run that there is."""
        self._wait(name, as_metrics(points, time_s), tags)

    def write_parent(self, time_s: float, points: Iterable[Point] = (), tags: Mapping[str, str] | None = None) -> None:
        """Adds points and tags to the parent run, made anew if there is none."""
        self.ensure(self.parent, time_s)
        self.write(self.parent, time_s, points, tags)

    def end(self, name: str, time_s: float, status: EndStatus) -> None:
        """Ends a run, after sending what waits of it."""
        self._send_run(name)
        self._client.set_terminated(self._run_ids[name], status, milliseconds(time_s))

    def send(self) -> None:
        """Sends everything that waits."""
        for name in list(self._waiting):
            self._send_run(name)

    def write_inputs(self, name: str, inputs: Sequence[DatasetInput]) -> None:
        """Writes the datasets that a run has used. MLflow keeps one that a run has already."""
        run_id = self._run_ids[name]
        try:
            if inputs:
                self._client.log_inputs(run_id, list(inputs))
        except MlflowException as error:
            if not self._is_final(error, run_id):
                raise
            log.warning("MLflow refuses the datasets of run %s: %s", run_id, reason(error))

    def write_artifact(self, file_name: str, text: str) -> None:
        """Writes a file to the artifacts of the parent run."""
        run_id = self._run_ids[self.parent]
        try:
            self._client.log_text(run_id, text, file_name)
        except MlflowException as error:
            if not self._is_final(error, run_id):
                raise
            log.warning("MLflow refuses the artifact %s: %s", file_name, reason(error))

    def write_artifact_file(self, file: Path) -> None:
        """Copies a file to the artifacts of the parent run as it is."""
        self._client.log_artifact(self._run_ids[self.parent], str(file))

    def tag_experiment(self, tags: Mapping[str, str], started_s: float) -> None:
        """Sets tags of the experiment that are about its latest search, which started at `started_s`, a Unix time;
        leaves those of one that started later."""
        known = self._client.get_experiment(self._experiment_id).tags
        if float(known.get(LATEST_TAG, 0)) <= started_s:
            for key, value in {**tags, LATEST_TAG: repr(started_s)}.items():
                tag_experiment(self._client, self._experiment_id, key, value)

    def _create(self, name: str, time_s: float, tags: Mapping[str, str]) -> None:
        links = {}
        if name != self.parent:
            self.ensure(self.parent, time_s)
            links = {"mlflow.parentRunId": self._run_ids[self.parent]}
        own = {"search_run": self.parent, "kind": run_kind(tags)}
        all_tags = {**own, **links, **_redacted(tags, TAG_CHARACTERS)}
        run = self._client.create_run(self._experiment_id, milliseconds(time_s), all_tags, name)
        self._run_ids[name] = run.info.run_id

    def _wait(
        self,
        name: str,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self._waiting.setdefault(name, []).extend(
            [
                *metrics,
                *(Param(key, value) for key, value in _redacted(params or {}, PARAM_CHARACTERS).items()),
                *(RunTag(key, value) for key, value in _redacted(tags or {}, TAG_CHARACTERS).items()),
            ]
        )

    def _send_run(self, name: str) -> None:
        """Sends what waits of a run: almost always one request. Of several values of a tag, the last counts."""
        entities = self._waiting.pop(name, [])
        metrics = [entity for entity in entities if isinstance(entity, Metric)]
        params = {entity.key: entity for entity in entities if isinstance(entity, Param)}
        tags = {entity.key: entity for entity in entities if isinstance(entity, RunTag)}
        for batch in zip_longest(
            _chunks(metrics, METRICS_PER_BATCH),
            _chunks([*params.values()], PARAMS_PER_BATCH),
            _chunks([*tags.values()], TAGS_PER_BATCH),
            fillvalue=(),
        ):
            self._log_batch(self._run_ids[name], [entity for entities in batch for entity in entities])

    def _log_batch(self, run_id: str, entities: Sequence[Entity]) -> None:
        """Sends one request; where it is refused, as many as it takes to leave out nothing but what is refused."""
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
                    self._log_batch(run_id, half)
            elif entities:
                log.warning("MLflow refuses %r of run %s: %s", entities[0].key, run_id, reason(error))

    def _is_final(self, error: MlflowException, run_id: str) -> bool:
        """Whether the request itself is refused, and not because somebody deleted its run, which can be made anew."""
        if error.error_code not in REFUSED and TOO_LARGE not in str(error):
            return False
        return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")


def end_status(outcome: Outcome) -> EndStatus:
    """Status of a parent run whose search or comparison ended so: only one that ended by itself is FINISHED."""
    return "FINISHED" if outcome == "finished" else "KILLED"


def retraining_name(seed: int | None, baseline: str | None = None) -> str:
    """Names the run of a retraining: `retrain-seed-0`, of a baseline `retrain-linear_probe-seed-0`, and that of the
    ensemble of all seeds (None): `retrain-ensemble`."""
    which = "ensemble" if seed is None else f"seed-{seed}"
    return f"retrain-{which}" if baseline is None else f"retrain-{baseline}-{which}"


def baseline_name(baseline: str) -> str:
    """Names the run of a baseline: `baseline-linear_probe`."""
    return f"baseline-{baseline}"


def retraining_tags(seed: int | None, baseline: str | None = None) -> dict[str, str]:
    """Returns the tags by which the run of a retraining is found, of the best trial or of a baseline; without a seed
    that of the ensemble."""
    which = ENSEMBLE if seed is None else str(seed)
    if baseline is None:
        return {"retrain_seed": which}
    return {"of_baseline": baseline, "baseline_seed": which}


def hardware_tags(event: HardwareInspected) -> dict[str, str]:
    """Returns the tags of a parent run that say what its trainings run on."""
    return {"devices": "; ".join(event.devices), "auto_precision": event.precisions.training}


def run_name(tags: Mapping[str, str]) -> str | None:
    """Name of a trial's, a baseline's, a retraining's or a cell's run, from its tags; None for those of a parent.

    >>> run_name({"row": "SMILE", "column": "15 %", "seed": "0"})
    'SMILE | 15 % | seed 0'
    """
    if "seed" in tags:
        return cell_name(tags["row"], tags["column"], int(tags["seed"]))
    if "retrain_seed" in tags:
        return retraining_name(_seed_of(tags["retrain_seed"]))
    if "baseline_seed" in tags:
        return retraining_name(_seed_of(tags["baseline_seed"]), tags["of_baseline"])
    if "baseline" in tags:
        return baseline_name(tags["baseline"])
    return tags.get("trial_id")


def run_kind(tags: Mapping[str, str]) -> RunKind:
    """Kind of a run, from its other tags.

    >>> run_kind({"trial_id": "trial-0003", "state": "running"})
    'trial'
    """
    if "seed" in tags:
        return "training"
    if "retrain_seed" in tags or "baseline_seed" in tags:
        return "retraining"
    if "baseline" in tags:
        return "baseline"
    return "trial" if "trial_id" in tags else "parent"


def _seed_of(tag: str) -> int | None:
    return None if tag == ENSEMBLE else int(tag)


def _redacted(texts: Mapping[str, str], max_characters: int) -> dict[str, str]:
    return {key: without_credentials(value)[:max_characters] for key, value in texts.items()}


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
