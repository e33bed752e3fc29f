"""A search in MLflow teaches what the same search on disk does."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.marks import MLFLOW_LEAKS
from tests.tuner.scheduling.test_warm_start import later, searched
from tests.tuner.scheduling.test_warm_start_alternatives import searched_alternatives
from tests.tuner.tiny import METHODS
from tests.tuner.tracking.searches import (
    NAME,
    RUN,
    SPACE,
    Store,
    interrupt_search,
    run_trial,
    start_search,
    start_trial,
)
from trainables.errors import BadInput
from tuner.experiment.tree import flatten
from tuner.record.earlier import EarlierSearch, ObservedTrial
from tuner.record.journal import SearchJournal
from tuner.record.scores import FoldScore
from tuner.scheduling.warm_start import collect_warm_start
from tuner.tracking.earlier_search import read_search
from tuner.tracking.projection import Projection

pytestmark = MLFLOW_LEAKS


def test_what_is_read_back(projection: Projection, journal: SearchJournal, store: Store, uri: str) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    run_trial(journal, 1, [0.5], "pruned", "too far behind")
    run_trial(journal, 2, [], "failed", "diverged")
    start_trial(journal, 3, 0.1)
    interrupt_search(journal)
    projection.advance()

    config = flatten({"data": SPACE["data"], "method": {"gamma_fe": 0.05}, "seed": 7})
    scores = (FoldScore(fold=1, val_top1=0.7), FoldScore(fold=2, val_top1=0.8))
    trials = (
        ObservedTrial(0, config, "complete", "", scores),
        ObservedTrial(1, config, "pruned", "too far behind", (FoldScore(fold=1, val_top1=0.5),)),
        ObservedTrial(2, config, "failed", "diverged"),
        ObservedTrial(3, {**config, "method.gamma_fe": 0.1}, "running", "the search ended before the trial did"),
    )
    for run in store.runs.values():  # the parent, or any other of its runs
        assert read_search(uri, run.info.run_id) == EarlierSearch(f"{NAME}/{RUN}", 2, trials)


def test_from_mlflow_as_from_disk(uri: str, tmp_path: Path) -> None:
    run = searched(tmp_path, left_open=True)
    Projection(uri, "earlier", run).advance()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("earlier")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.run}'")
    from_disk = collect_warm_start(later(tmp_path, "earlier"))
    assert len(from_disk.trials) == 4
    from_mlflow = collect_warm_start(later(tmp_path, parent.info.run_id, tracking__uri=uri))
    assert from_mlflow.model_dump(exclude={"time_s"}) == from_disk.model_dump(exclude={"time_s"})


def test_alternatives_from_mlflow_as_from_disk(uri: str, tmp_path: Path) -> None:
    run = searched_alternatives(tmp_path)
    Projection(uri, "branches", run).advance()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("branches")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.run}'")
    from_disk = collect_warm_start(later(tmp_path, "branches", method=METHODS))
    assert len(from_disk.trials) == 3
    from_mlflow = collect_warm_start(later(tmp_path, parent.info.run_id, method=METHODS, tracking__uri=uri))
    assert from_mlflow.model_dump(exclude={"time_s"}) == from_disk.model_dump(exclude={"time_s"})


@pytest.mark.parametrize("store", ["sqlite:////nowhere/mlflow.db", None])
def test_an_id_that_nobody_has_is_refused(uri: str, tmp_path: Path, store: str | None) -> None:
    with pytest.raises(BadInput, match=r"search\.warm_start: expected the id of a search's run in the store sqlite"):
        collect_warm_start(later(tmp_path, "0" * 32, tracking__uri=store or uri))
