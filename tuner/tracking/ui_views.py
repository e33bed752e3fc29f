"""View of a search's trials in the MLflow UI, with the columns that a person looks for.

The UI (3.17) has no columns of metrics unless somebody picks them, opens on traces of language models whatever the kind
of an experiment is, and keeps what is picked in the browser. A view that is shared is a tag of the experiment, and a
link to it shows it to everybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from mlflow import MlflowClient

from tuner.experiment.objective import TOP1, Objective

KEY = "trials"
VIEW_TAG = f"mlflow.sharedViewState.{KEY}"
MAX_LISTED = 10
MAX_FOLD_COLUMNS = 5
"""Number of folds up to which each is a column; of more, the mean alone is."""


def view_of_trials(num_folds: int, dimensions: Iterable[str], objective: Objective = TOP1) -> str:
    """Returns the value of `VIEW_TAG`: the best trials first, with the metric that is optimised, top-1, dimensions by
    short name, and state."""
    shown, key = num_folds if num_folds <= MAX_FOLD_COLUMNS else 0, objective.metric_key
    scores = dict.fromkeys((key, TOP1.metric_key, *(f"fold_{k}/{key}" for k in range(1, shown + 1))))
    columns = [f"metrics.`{name}`" for name in scores] + [f"params.`{name}`" for name in dimensions]
    is_ascending = objective.lower_is_better
    view = {"orderByKey": columns[0], "orderByAsc": is_ascending, "selectedColumns": [*columns, "tags.`state`"]}
    return json.dumps(view)


def page_of_trials(experiment_id: str) -> str:
    """Returns the page of that view, to be put behind the server's address."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def pages_of_searches(uri: str) -> dict[str, str]:
    """Lists the experiments that have such a view, the latest first: name → page. Raises what MLflow raises."""
    has_view = f"tags.`{VIEW_TAG}` LIKE '%'"
    order = ["last_update_time DESC"]
    found = MlflowClient(uri).search_experiments(filter_string=has_view, order_by=order, max_results=MAX_LISTED)
    return {experiment.name: page_of_trials(experiment.experiment_id) for experiment in found}
