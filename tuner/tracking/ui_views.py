"""Views of a search in the MLflow UI: its trials, its retrainings and its baselines, with columns and charts.

The UI (3.17) has no columns of metrics unless somebody picks them, opens on traces of language models whatever the kind
of an experiment is, and keeps what is picked in the browser. A view that is shared is a tag of the experiment, and a
link to it shows it to everybody. An experiment's views are those of its latest search.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow import MlflowClient

from tuner.record.events import SearchStarted
from tuner.tracking.params import by_short_name
from tuner.tracking.run_writer import LATEST_TAG, RunKind

VIEWS: dict[str, RunKind] = {"trials": "trial", "retrainings": "retraining", "baselines": "baseline"}
"""Kind of the runs in each view, by the view's name in links."""
TAG_PREFIX = "mlflow.sharedViewState."
MAX_TAG_CHARACTERS = 5000
MAX_EXPERIMENTS = 1000
"""Number of experiments, the latest made first, among which the latest search is looked for."""
MAX_FOLD_COLUMNS = 5
"""Number of folds up to which each is a column; of more, the mean alone is."""
MAX_CHARTS_OF_DIMENSIONS = 6
"""Number of dimensions of which each has a chart of its own."""
NAME_COLUMNS = ("attributes.`Run Name`",)
NAME_WIDTH_PX, MIN_WIDTH_PX, MAX_WIDTH_PX = 160, 88, 220
TEST = "test_top1"


def views_of(started: SearchStarted) -> dict[str, str]:
    """Returns the tags of the experiment that hold the views of a search."""
    return {f"{TAG_PREFIX}{name}": _as_tag(view) for name, view in _views(started)}


def page_of(experiment_id: str, view: str = "trials", as_charts: bool = False) -> str:
    """Returns the page of a view, to be put behind the server's address."""
    mode = "&compareRunsMode=CHART" if as_charts else ""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}{mode}"


def latest_page(uri: str) -> str:
    """Returns the page of the trials of the latest search in the store; "" where there is none. Raises what MLflow
    raises."""
    has_search = f"tags.{LATEST_TAG} LIKE '%'"
    found = MlflowClient(uri).search_experiments(filter_string=has_search, max_results=MAX_EXPERIMENTS)
    latest = max(found, key=lambda experiment: float(experiment.tags[LATEST_TAG]), default=None)
    return "" if latest is None else page_of(latest.experiment_id)


def _views(started: SearchStarted) -> Iterator[tuple[str, dict[str, Any]]]:
    objective, dimensions = started.objective, [*by_short_name(started, started.dimensions)]
    key = objective.metric_key
    params = [_param(name) for name in dimensions]
    folds = started.num_trial_folds if started.num_trial_folds <= MAX_FOLD_COLUMNS else 0
    of_folds = [_metric(f"fold_{k}/{key}") for k in range(1, folds + 1)]
    means = [_metric(name) for name in dict.fromkeys((key, "val_top1", TEST))]
    of_tests = [_metric(name) for name in (TEST, "test_balanced_accuracy", "test_macro_f1", "test_log_loss")]
    columns = {
        "trials": [*means, *params, *of_folds, _tag("state"), _tag("source")],
        "retrainings": [*of_tests, _tag("of_trial"), _tag("of_baseline"), *params],
        "baselines": [*means, *of_folds, _tag("state"), _tag("reason")],
    }
    for name, kind in VIEWS.items():
        order = columns[name][0]
        view = {
            "searchFilter": _filter(started, kind),
            "orderByKey": order,
            "orderByAsc": objective.lower_is_better and order == _metric(key),
            "selectedColumns": columns[name],
            "columnOrder": [*NAME_COLUMNS, *columns[name]],
            "columnWidths": {column: _width_px(column) for column in (*NAME_COLUMNS, *columns[name])},
        }
        yield name, {**view, **(_charts(key, started) if name == "trials" else {})}


def _as_tag(view: Mapping[str, Any]) -> str:
    """Value of a tag, without what would make it longer than MLflow takes, as where there are dozens of dimensions."""
    charts = ("compareRunCharts", "compareRunSections", "isAccordionReordered")
    for left_out in ((), charts, (*charts, "columnOrder", "columnWidths")):
        text = json.dumps({key: value for key, value in view.items() if key not in left_out}, separators=(",", ":"))
        if len(text) <= MAX_TAG_CHARACTERS:
            return text
    return json.dumps({"searchFilter": view["searchFilter"]})


def _filter(started: SearchStarted, kind: RunKind) -> str:
    """Filter of the runs of one kind of a search. Searches of a comparison's rows are shown together."""
    if started.row is None:
        return f"tags.search_run = '{started.run}' and tags.kind = '{kind}'"
    comparison = started.run.rpartition("-search-")[0]
    return f"tags.search_run LIKE '{comparison}-search-%' and tags.kind = '{kind}'"


def _charts(key: str, started: SearchStarted) -> dict[str, Any]:
    """Charts of the trials: the score over the dimensions, in parallel coordinates and each alone, and trial by trial.
    The UI adds one of every metric, of which those of single folds stay folded.

    Parallel coordinates show only trials that have all of their dimensions: those of an alternative are left out.
    """
    names = by_short_name(started, {key: key for key in started.dimensions})
    shared = [name for name, path in names.items() if not any(path.startswith(f"{d}.") for d in started.dimensions)]
    parallel: dict[str, Any] = {"type": "PARALLEL", "selectedParams": shared, "selectedMetrics": [key]}
    alone: list[dict[str, Any]] = [
        {"type": "BAR", "metricKey": key, "runsCountToCompare": 20},
        *(
            {"type": "SCATTER", "xaxis": {"key": name, "type": "PARAM"}, "yaxis": {"key": key, "type": "METRIC"}}
            for name in [*names][:MAX_CHARTS_OF_DIMENSIONS]
        ),
    ]
    of_folds = [
        {"uuid": name, "name": name, "display": False, "isReordered": False}
        for k in range(1, min(started.num_trial_folds, MAX_FOLD_COLUMNS) + 1)
        for name in (f"fold_{k}", f"fold_{k}/curve", f"fold_{k}/loss")
    ]
    return {
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "compareRunCharts": [
            {"uuid": f"{section}-{n}", "metricSectionId": section, **chart}
            for section, charts in (("together", [parallel] if shared else []), ("alone", alone))
            for n, chart in enumerate(charts)
        ],
        "compareRunSections": [
            {"uuid": "together", "name": "Settings together", "display": True, "isReordered": True, "columns": 1},
            {"uuid": "alone", "name": "Settings one by one", "display": True, "isReordered": True},
            {"uuid": "metrics", "name": "Model metrics", "display": False, "isReordered": False},
            *of_folds,
        ],
    }


def _width_px(column: str) -> int:
    """Width of a column in which its heading, and a number of some digits, can be read."""
    name = column.split("`")[1]
    return NAME_WIDTH_PX if column in NAME_COLUMNS else min(MAX_WIDTH_PX, max(MIN_WIDTH_PX, 8 * len(name) + 24))


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _param(name: str) -> str:
    return f"params.`{name}`"


def _tag(name: str) -> str:
    return f"tags.`{name}`"
