"""The views of a search in the UI, and the artifacts beside them; `end_to_end/test_browser.py` looks at them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import NAME, RUN, Store, start_search, ticking_journal, whole_search
from tuner.record.directory import RunDirectory
from tuner.record.events import SearchStarted
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection
from tuner.tracking.ui_views import MAX_TAG_CHARACTERS, latest_page, page_of, views_of

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


def started(num_folds: int = 2, num_dimensions: int = 1, objective: str = "top1", **changes: Any) -> SearchStarted:
    space = {"search": {"folds": num_folds, "objective": objective}}
    dimensions = {f"method.gamma_{n}": "uniform [0, 1]" for n in range(num_dimensions)}
    return SearchStarted(name=NAME, run=RUN, space=space, dimensions=dimensions, **changes)


def view_of(event: SearchStarted, name: str = "trials") -> dict[str, Any]:
    view: dict[str, Any] = json.loads(views_of(event)[f"mlflow.sharedViewState.{name}"])
    return view


def test_the_views_of_the_latest_search_are_tags_of_the_experiment(
    projection: Projection, journal: SearchJournal, store: Store, uri: str
) -> None:
    assert latest_page(uri) == ""  # there is the experiment of somebody else
    start_search(journal)
    projection.advance()
    experiment = store.client.get_experiment_by_name(NAME)
    assert experiment is not None
    folds = ["metrics.`fold_1/val_top1`", "metrics.`fold_2/val_top1`"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.trials"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val_top1`", False)
    scores = ["metrics.`val_top1`", "metrics.`test_top1`"]
    assert view["selectedColumns"] == [*scores, "params.`gamma_fe`", *folds, "tags.`state`", "tags.`source`"]
    assert view["columnOrder"][1:] == view["selectedColumns"]
    page = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=trials"
    assert latest_page(uri) == page == page_of(experiment.experiment_id)


def test_the_latest_search_is_the_last_that_started_whichever_is_written_last(
    directory: RunDirectory, journal: SearchJournal, store: Store, uri: str
) -> None:
    start_search(journal)
    Projection(uri, "older", directory).advance()
    with ticking_journal(RunDirectory(directory.path.parent / "later")) as later:
        for _ in range(2):  # a second later, by the ticking clock
            start_search(later, run="later")
        Projection(uri, NAME, later.directory).advance()
    newest = store.client.get_experiment_by_name(NAME)
    assert newest is not None
    for experiment in ("older", NAME):
        Projection(uri, experiment, directory).advance()  # the older one again, and into the experiment of the later
    assert latest_page(uri) == page_of(newest.experiment_id)
    tags = store.client.get_experiment(newest.experiment_id).tags
    assert "search_run = 'later'" in json.loads(tags["mlflow.sharedViewState.trials"])["searchFilter"]


@pytest.mark.parametrize(
    ("view", "found"),
    [
        ("trials", {"trial-0000", "trial-0001", "trial-0002", "trial-0003"}),
        ("retrainings", {"retrain-seed-0", "retrain-seed-1"}),
        ("baselines", set()),
    ],
)
def test_each_view_has_the_runs_of_its_kind(finished: Store, view: str, found: set[str]) -> None:
    experiment = finished.client.get_experiment_by_name(NAME)
    assert experiment is not None
    shown = json.loads(experiment.tags[f"mlflow.sharedViewState.{view}"])
    runs = finished.client.search_runs([experiment.experiment_id], shown["searchFilter"])
    assert {run.info.run_name for run in runs} == found


def test_of_a_comparison_the_trials_of_all_rows_are_shown_together(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    whole_search(journal, run=f"{RUN}-search-03")
    projection.advance()
    row = started(row="SMILE", column="15 %").model_copy(update={"run": f"{RUN}-search-04"})
    experiment = store.client.get_experiment_by_name(NAME)
    assert experiment is not None
    assert len(store.client.search_runs([experiment.experiment_id], view_of(row)["searchFilter"])) == 4


def test_many_folds_are_no_columns_but_their_mean() -> None:
    assert "metrics.`fold_5/val_top1`" in view_of(started(num_folds=5))["selectedColumns"]
    assert not [column for column in view_of(started(num_folds=9))["selectedColumns"] if "fold" in column]


def test_of_a_loss_the_least_come_first_and_top1_stands_beside_it() -> None:
    view = view_of(started(objective="log_loss"))
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val_log_loss`", True)
    assert view["selectedColumns"][:3] == ["metrics.`val_log_loss`", "metrics.`val_top1`", "metrics.`test_top1`"]
    retrainings = view_of(started(objective="log_loss"), "retrainings")
    assert (retrainings["orderByKey"], retrainings["orderByAsc"]) == ("metrics.`test_top1`", False)


def test_the_charts_show_the_score_over_the_settings() -> None:
    view = view_of(started(num_dimensions=8))
    parallel, bar, *scatters = view["compareRunCharts"]
    names = [f"gamma_{n}" for n in range(8)]
    assert (parallel["selectedParams"], parallel["selectedMetrics"]) == (names, ["val_top1"])
    assert bar["metricKey"] == "val_top1"
    assert [chart["xaxis"]["key"] for chart in scatters] == names[:6]
    sections = {section["uuid"]: section["display"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == {"together", "alone"}
    assert [name for name, is_open in sections.items() if is_open] == ["together", "alone"]
    assert [chart["type"] for chart in view_of(started(num_dimensions=0))["compareRunCharts"]] == ["BAR"]


def test_parallel_coordinates_are_of_the_dimensions_that_every_trial_has() -> None:
    event = started()
    alternatives = {"training": "choice", "training.frozen.learning_rate": "uniform", **event.dimensions}
    parallel, *_ = view_of(event.model_copy(update={"dimensions": alternatives}))["compareRunCharts"]
    assert parallel["selectedParams"] == ["training", "gamma_0"]


@pytest.mark.parametrize("num_dimensions", [1, 40, 70, 300])
def test_a_view_fits_into_a_tag(num_dimensions: int) -> None:
    for name, text in views_of(started(num_dimensions=num_dimensions)).items():
        assert len(text) <= MAX_TAG_CHARACTERS
        assert "tags.kind" in json.loads(text)["searchFilter"], name
    if num_dimensions == 70:
        assert "selectedColumns" in view_of(started(num_dimensions=num_dimensions))
