"""What MLflow shows of a search besides its numbers: the report as an artifact, a description, a view of the trials."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import NAME, RUN, Store, finish_search, run_trial, start_search
from tuner.experiment.objective import Objective
from tuner.record.directory import RunDirectory
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection
from tuner.tracking.ui_views import pages_of_searches, view_of_trials

pytestmark = MLFLOW_LEAKS


def test_a_report_is_an_artifact_as_it_is_and_anew_whenever_it_is_written_anew(
    projection: Projection, journal: SearchJournal, directory: RunDirectory, store: Store
) -> None:
    start_search(journal)
    file = directory.report
    for time_s, page in enumerate(("<p>http://host/?token=…</p>", "<p>http://host/?token=…</p> and more"), start=1):
        file.write_text(page)
        os.utime(file, (time_s, time_s))
        projection.advance()
        local = store.client.download_artifacts(store.runs[RUN].info.run_id, "report.html")
        assert Path(local).read_text() == page


def test_the_description_says_what_is_best_and_how_to_go_on(
    projection: Projection, journal: SearchJournal, directory: RunDirectory, store: Store
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    finish_search(journal)
    projection.advance()
    description = store.runs[RUN].data.tags["mlflow.note.content"]
    assert "**trial-0000**, validation top-1 0.7500" in description
    assert "- gamma_fe: `0.05`" in description
    assert f"python -m tuner.search --resume {directory}" in description


def test_the_view_of_trials_has_their_scores_and_what_was_searched(
    projection: Projection, journal: SearchJournal, store: Store, uri: str
) -> None:
    start_search(journal)
    projection.advance()
    experiment = store.client.get_experiment_by_name(NAME)
    assert experiment is not None
    folds = ["metrics.`fold_1/val_top1`", "metrics.`fold_2/val_top1`"]
    assert json.loads(experiment.tags["mlflow.sharedViewState.trials"]) == {
        "orderByKey": "metrics.`val_top1`",
        "orderByAsc": False,
        "selectedColumns": ["metrics.`val_top1`", *folds, "params.`gamma_fe`", "tags.`state`"],
    }
    page = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=trials"
    assert pages_of_searches(uri) == {NAME: page}  # and not of the other experiment that is there


def test_many_folds_are_no_columns_but_their_mean() -> None:
    assert "fold_5/val_top1" in view_of_trials(5, [])
    assert json.loads(view_of_trials(9, ["gamma_fe"]))["selectedColumns"] == [
        "metrics.`val_top1`",
        "params.`gamma_fe`",
        "tags.`state`",
    ]


def test_of_a_loss_the_least_come_first_and_top1_stands_beside_it() -> None:
    view = json.loads(view_of_trials(2, [], Objective("log_loss")))
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val_log_loss`", True)
    assert view["selectedColumns"][:4] == [
        "metrics.`val_log_loss`",
        "metrics.`val_top1`",
        "metrics.`fold_1/val_log_loss`",
        "metrics.`fold_2/val_log_loss`",
    ]
