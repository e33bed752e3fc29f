"""Experiments small enough to be checked, or even run, within a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tuner.experiment.search_experiment import SearchExperiment, parse_experiment
from tuner.experiment.tree import set_leaf
from tuner.record.events import Event
from tuner.record.history import History, TrialRecord
from tuner.record.journal import Journal

GAMMA = {"log_uniform": [0.01, 0.1]}
ALPHA = {"uniform": [0.1, 1.0]}


def tree_of(**changes: Any) -> dict[str, Any]:
    """An experiment with two dimensions; `changes` by dotted path, with `__` for the dots. None takes a leaf away."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"dataset": "digits", "train_images": 30, "test_images": 20, "size_px": 32, "flip": False},
        "backbone": {"name": "package/efficientnet_lite0"},
        "method": {"name": "smile", "gamma_fe": GAMMA, "alpha": ALPHA},
        "training": {"num_steps": 2, "batch_size": 8, "learning_rate": 0.01},
        "search": {"trials": 6, "folds": 2},
    }
    for path, value in changes.items():
        set_leaf(tree, path.replace("__", "."), value)
        if value is None:
            section, _, leaf = path.partition("__")
            del (tree[section] if leaf else tree)[leaf or section]
    return tree


def space_of(**changes: Any) -> SearchExperiment:
    return parse_experiment(tree_of(**changes), "tiny.yaml")


def write_yaml(folder: Path, **changes: Any) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree_of(**changes), sort_keys=False), encoding="utf-8")
    return file


def write_photos(folder: Path, side_px: int, **counts: int) -> None:
    """A folder of images with two classes, apple and pear; `counts` are the images of each class by split."""
    for split, count in counts.items():
        for name in ("apple", "pear"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.full((side_px, side_px, 3), 10 * i, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


def fold(number: int, val_top1: float, duration_s: float = 1.0) -> dict[str, Any]:
    return {"fold": number, "val_top1": val_top1, "duration_s": duration_s, "loss_steps": [], "loss_terms": {}}


def record(
    number: int, scores: Sequence[float] = (), state: Any = "complete", params: Mapping[str, Any] | None = None
) -> TrialRecord:
    folds = [fold(k, score) for k, score in enumerate(scores, start=1)]
    return TrialRecord(number, dict(params or {}), 0.0, state=state, folds=folds, finished_s=1.0)


def history_of(*records: TrialRecord) -> History:
    return History(trials={trial.number: trial for trial in records})


def add_trial(
    journal: Journal, number: int, scores: Sequence[float], state: str = "complete", reason: str = ""
) -> None:
    """A whole trial; one that is `running` is left without its end."""
    journal.append("trial_started", trial=number, params={"gamma_fe": 0.05, "alpha": 0.5}, attrs={})
    for k, score in enumerate(scores, start=1):
        journal.append("fold_finished", trial=number, result=fold(k, score))
    if state != "running":
        journal.append("trial_finished", trial=number, state=state, reason=reason)


def events_in(file: Path) -> list[Event]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
