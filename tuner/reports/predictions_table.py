"""Table of the predictions of a search, one row an example and model, as Parquet and as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames
from tuner.record.history import SearchHistory
from tuner.reports.evaluation import Evaluation, evaluations_of

if TYPE_CHECKING:
    import pandas as pd


def write_predictions(directory: RunDirectory, history: SearchHistory) -> bool:
    """Writes `predictions.parquet` and `predictions.csv` into the run directory. Returns whether there are any.

    Raises OSError.
    """
    import pandas as pd

    names = ExampleNames.read(directory)
    tables = [] if names is None else [_table(each, names) for each in evaluations_of(directory, history)]
    if not tables:
        return False
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(directory.predictions_table, index=False)
    table.to_csv(directory.predictions_csv, index=False, float_format="%.6g")
    return True


def _table(evaluation: Evaluation, names: ExampleNames) -> pd.DataFrame:
    """Columns: `model`, `split`, `network`, `example`, `label`, `predicted`, `probability`, `is_right`, and
    `probability/<class>` for every class."""
    import numpy as np
    import pandas as pd

    kept, classes = evaluation.predictions, np.array(names.class_names, dtype=object)
    best = kept.probabilities.argmax(axis=1)
    columns: dict[str, object] = {
        "model": evaluation.model,
        "split": evaluation.split,
        "network": evaluation.network,
        "example": np.array(names.of(evaluation.split), dtype=object)[kept.index],
        "label": classes[kept.labels],
        "predicted": classes[best],
        "probability": kept.probabilities.max(axis=1),
        "is_right": best == kept.labels,
    }
    columns |= {f"probability/{name}": kept.probabilities[:, k] for k, name in enumerate(names.class_names)}
    return pd.DataFrame(columns)
