"""Comparisons small enough to be checked, or even run, within a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainables.results import RetrainResult
from tuner.comparison.comparison_experiment import ComparisonExperiment, parse_comparison
from tuner.experiment.tree import set_leaf
from tuner.record.events import CellFailed, CellFinished
from tuner.record.journal import ComparisonJournal

ROWS: list[dict[str, Any]] = [
    {"label": "L²", "method": {"name": "l2"}},
    {"label": "SMILE", "method": {"name": "smile"}},
]
SEARCHED: dict[str, Any] = {
    "label": "searched",
    "method": {"name": "mixup", "alpha": {"uniform": [0.1, 1.0]}},
    "search": {"trials": 2, "folds": 2, "repeats": 1, "baselines": []},
}
COLUMNS: list[dict[str, Any]] = [
    {"label": "20", "data": {"train_images": 20}},
    {"label": "30", "data": {"train_images": 30}},
]


def tree_of(**changes: Any) -> dict[str, Any]:
    """Two methods, two columns, two seeds; `changes` by dotted path, with `__` for the dots."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"dataset": "digits", "test_images": 20, "size_px": 32, "flip": False},
        "backbone": {"name": "package/efficientnet_lite0"},
        "training": {"num_steps": 2, "batch_size": 8},
        "compare": {"reference": "L²", "seeds": 2, "rows": ROWS, "columns": COLUMNS},
    }
    for path, value in changes.items():
        set_leaf(tree, path.replace("__", "."), value)
    return tree


def comparison_of(**changes: Any) -> ComparisonExperiment:
    return parse_comparison(tree_of(**changes), "tiny.yaml")


def write_yaml(folder: Path, **changes: Any) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree_of(**changes), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def finish_cell(
    journal: ComparisonJournal,
    row: str,
    column: str,
    seed: int,
    top1: float,
    metrics: Mapping[str, float] | None = None,
    **measures: float,
) -> None:
    result = RetrainResult(seed, top1, 1.5, [1, 2], {"target_label": [2.0, 1.0]}, dict(metrics or {}))
    config = {"method.name": "l2"}
    journal.append(CellFinished(row=row, column=column, seed=seed, config=config, result=result, measures=measures))


def fail_cell(journal: ComparisonJournal, row: str, column: str, seed: int, diverged: bool = True) -> None:
    reason = "diverged" if diverged else "OSError: gone"
    journal.append(CellFailed(row=row, column=column, seed=seed, config={}, reason=reason, diverged=diverged))
