"""Values at the limits of MLflow, and requests that it refuses."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import (
    FIXED,
    NAME,
    SPACE,
    Store,
    end_trial,
    finish_fold,
    lose_a_trial,
    run_trial,
    start_search,
    start_trial,
)
from tuner.record.events import TrialStarted
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection

pytestmark = MLFLOW_LEAKS


def test_values_at_the_limits_of_mlflow(projection: Projection, journal: SearchJournal, store: Store) -> None:
    method = {f"x{i}": i for i in range(250)} | SPACE["method"]
    data = {"long": "x" * 9000, "list": [1, 2], "empty": ""}
    start_search(journal, space={"name": NAME, "data": data, "method": method})
    start_trial(journal, 0, 1e-3)
    steps = list(range(2500))
    terms = {"target_label": [float(step) for step in steps], "other": [float("inf")] * 2500}
    finish_fold(journal, 0, 1, float("nan"), loss_steps=steps, loss_terms=terms)
    end_trial(journal, 0, "failed", "y" * 9000)
    projection.advance()
    run = store.runs["trial-0000"]
    assert len(run.data.params) == 256
    assert run.data.params["data.list"] == "[1, 2]"
    assert len(run.data.params["data.long"]) == 6000
    assert len(store.series("trial-0000", "fold_1/loss/target_label")) == 2500
    assert np.isnan(run.data.metrics["fold_1/loss/other"])
    assert np.isnan(run.data.metrics["fold_1/val_top1"])


class TestRefusals:
    def test_only_what_is_refused_is_left_out(
        self, projection: Projection, journal: SearchJournal, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """MLflow refuses names with such characters: it would refuse them for ever."""
        start_search(journal)
        start_trial(journal, 0)
        terms = {"target_label": [2.0, 1.0], "bad!name": [2.0, 1.0]}
        finish_fold(journal, 0, 1, 0.5, loss_terms=terms)
        params = {"method.gamma_fe": 0.1, "data.bad!name": 1}
        journal.append(TrialStarted(trial=1, params=params, source="sampler"))
        end_trial(journal, 0)
        with caplog.at_level(logging.WARNING, "tuner.tracking"):
            assert projection.advance() == 5
            assert projection.advance() == 0
        assert store.series("trial-0000", "fold_1/loss/target_label") == [(1, 2.0), (10, 1.0)]
        assert store.runs["trial-0000"].data.metrics["val_top1"] == 0.5
        shown = {**FIXED, "gamma_fe": "0.1", "method.gamma_fe": "0.1", "seed": "7"}
        assert store.runs["trial-0001"].data.params == shown
        refused = [record.getMessage().split("'")[1] for record in caplog.records if record.name == "tuner.tracking"]
        assert refused == ["fold_1/loss/bad!name", "fold_1/loss/bad!name", "data.bad!name"]

    def test_what_a_proxy_finds_too_large_goes_in_parts(
        self, projection: Projection, journal: SearchJournal, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_batch = MlflowClient.log_batch

        def small(self: MlflowClient, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
            if len(metrics) + len(params) + len(tags) > 2:
                raise MlflowException("API request to endpoint /x failed with error code 413 != 200")
            log_batch(self, run_id, metrics, params, tags)

        monkeypatch.setattr(MlflowClient, "log_batch", small)
        start_search(journal)
        run_trial(journal, 0, [0.7])
        projection.advance()
        assert store.series("trial-0000", "fold_1/loss/teacher") == [(1, 0.5), (10, 0.25)]
        assert store.runs["trial-0000"].data.tags["state"] == "complete"

    @pytest.mark.parametrize("said", ["API request to endpoint /x failed with error code 503 != 200", "timed out"])
    def test_an_outage_is_none(
        self, said: str, projection: Projection, journal: SearchJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any, **__: Any) -> None:
            raise MlflowException(said)

        monkeypatch.setattr(MlflowClient, "log_batch", away)
        start_search(journal)
        for _ in range(2):
            with pytest.raises(MlflowException):
                projection.advance()

    def test_a_run_that_is_deleted_meanwhile_is_made_anew(
        self, projection: Projection, journal: SearchJournal, store: Store
    ) -> None:
        lose_a_trial(projection, journal, store)
        with pytest.raises(MlflowException):
            projection.advance()
        assert projection.advance() == 1
        experiment = store.client.get_experiment_by_name(NAME)
        assert experiment is not None
        active = store.client.search_runs([experiment.experiment_id], "tags.trial_id = 'trial-0000'")
        assert [run.data.metrics["fold_1/val_top1"] for run in active] == [0.9]
