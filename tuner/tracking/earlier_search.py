"""Reads a search back from MLflow, for another to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import cast

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from trainables.errors import BadInput, Problem
from tuner.messages.redaction import reason, without_credentials
from tuner.record.earlier import EarlierSearch, ObservedTrial
from tuner.record.events import TrialState
from tuner.record.scores import FoldScore
from tuner.tracking.params import config_leaves
from tuner.tracking.store import require_store, runs_with, use_gentle_defaults


def read_search(uri: str, run_id: str) -> EarlierSearch:
    """Reads the search whose parent run, or one of whose runs, has that id in the store at `uri`.

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
    trials = sorted((_trial(run) for run in runs if "trial_id" in run.data.tags), key=lambda trial: trial.number)
    num_folds = max((len(trial.folds) for trial in trials if trial.state == "complete"), default=None)
    return EarlierSearch(f"{name}/{search_run}", num_folds, tuple(trials))


def _trial(run: Run) -> ObservedTrial:
    tags = run.data.tags
    return ObservedTrial(
        number=int(tags["trial_id"].rpartition("-")[2]),
        config=config_leaves(run.data.params),
        state="running" if run.info.status == "KILLED" else cast(TrialState, tags["state"]),
        reason=tags.get("reason", ""),
        folds=tuple(_folds(run.data.metrics)),
    )


def _folds(metrics: Mapping[str, float]) -> Iterator[FoldScore]:
    for fold in count(1):
        prefix = f"fold_{fold}/val_"
        known = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
        top1 = known.pop("top1", None)
        if top1 is None:
            return
        yield FoldScore(fold=fold, val_top1=top1, metrics=known)
