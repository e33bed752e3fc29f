"""A search read back from MLflow, for another to learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from trainables.errors import BadInput, Problem
from tuner.messages.redaction import reason, without_credentials
from tuner.record.history import EarlierSearch, TrialRecord, TrialState
from tuner.tracking.store import require_store, runs_with, use_gentle_defaults


def read_search(uri: str, run_id: str) -> EarlierSearch:
    """The search whose parent run, or one of whose runs, has that id in the store at `uri`.

    Raises:
        BadInput: if there is no such run, or no such store.
    """
    use_gentle_defaults()
    try:
        require_store(uri)
        client = MlflowClient(uri)
        run = client.get_run(run_id)
        search_run = run.data.tags.get("search_run", "")
        runs = list(runs_with(client, run.info.experiment_id, search_run=search_run)) if search_run else []
        name = client.get_experiment(run.info.experiment_id).name
    except (MlflowException, OSError, sqlalchemy.exc.SQLAlchemyError) as error:
        expected = f"the id of a search's run in the store {without_credentials(uri)}"
        raise BadInput(Problem("search.warm_start", expected, f"{run_id!r}: {reason(error)}")) from None
    trials = [_trial(run) for run in runs if "trial_id" in run.data.tags]
    num_folds = max((len(trial.folds) for trial in trials if trial.state == "complete"), default=None)
    return EarlierSearch(f"{name}/{search_run}", num_folds, sorted(trials, key=lambda trial: trial.number))


def _trial(run: Run) -> TrialRecord:
    tags, metrics = run.data.tags, run.data.metrics
    config = {key: _value(text) for key, text in run.data.params.items() if "." in key or key == "seed"}
    record = TrialRecord(int(tags["trial_id"].rpartition("-")[2]), config, run.info.start_time / 1000)
    record.state = "running" if run.info.status == "KILLED" else cast(TrialState, tags["state"])
    record.reason = tags.get("reason", "")
    record.folds = _folds(metrics)
    return record


def _folds(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    folds: list[dict[str, Any]] = []
    while (score := metrics.get(f"fold_{len(folds) + 1}/val_top1")) is not None:
        folds.append({"fold": len(folds) + 1, "val_top1": score})
    return folds


def _value(text: str) -> Any:
    """A param as it was before it was written: text as it stands, everything else as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
