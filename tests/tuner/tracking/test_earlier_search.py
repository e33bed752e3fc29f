"""A search in MLflow teaches what the same search on disk does."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.marks import MLFLOW_LEAKS
from tests.tuner.test_warm_start import later, searched
from trainables.errors import BadInput
from tuner.scheduling.warm_start import collect_warm_start
from tuner.tracking.projection import Projection

pytestmark = MLFLOW_LEAKS


def test_from_mlflow_as_from_disk(uri: str, tmp_path: Path) -> None:
    run = searched(tmp_path, left_open=True)
    Projection(uri, "earlier", run).advance()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("earlier")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.name}'")
    from_disk = collect_warm_start(later(tmp_path, "earlier"))
    assert len(from_disk.trials) == 4
    assert collect_warm_start(later(tmp_path, parent.info.run_id, tracking__uri=uri)) == from_disk


@pytest.mark.parametrize("store", ["sqlite:////nowhere/mlflow.db", None])
def test_an_id_that_nobody_has_is_refused(uri: str, tmp_path: Path, store: str | None) -> None:
    with pytest.raises(BadInput, match=r"search\.warm_start: the id of a search's run in the store sqlite"):
        collect_warm_start(later(tmp_path, "0" * 32, tracking__uri=store or uri))
