"""Experiments small enough to be checked, or even run, within a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from trainables.results import FoldResult, RetrainResult
from tuner.experiment.baselines import baseline_config
from tuner.experiment.objective import Objective
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment
from tuner.experiment.settings import Baseline
from tuner.experiment.tree import flatten, set_leaf
from tuner.record.baselines import BaselineRecord
from tuner.record.directory import RunDirectory
from tuner.record.events import (
    BaselineFoldFinished,
    BaselineRetrained,
    BaselineStarted,
    Event,
    FoldFinished,
    SearchStarted,
    TrialEnded,
    TrialStarted,
)
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.journal import SearchJournal, open_search_journal

GAMMA = {"log_uniform": [0.01, 0.1]}
ALPHA = {"uniform": [0.1, 1.0]}
METHODS: dict[str, Any] = {
    "choice": [
        {"name": "l2"},
        {"name": "mixup", "alpha": {"log_uniform": [0.1, 1.0]}},
        {"name": "smile", "gamma_fe": GAMMA, "alpha": {"uniform": [0.1, 0.5]}, "gamma_fc": 0.05},
    ]
}
"""Three methods, of which two have dimensions, and both of these an `alpha`."""
TRAININGS: dict[str, Any] = {
    "num_steps": 2,
    "batch_size": 8,
    "choice": [
        {"label": "frozen", "batch_norm": "frozen", "learning_rate": {"log_uniform": [3e-4, 3e-3]}},
        {"label": "moving", "learning_rate": {"log_uniform": [3e-3, 3e-2]}},
    ],
}


def tree_of(**changes: Any) -> dict[str, Any]:
    """An experiment with two dimensions; `changes` by dotted path, with `__` for the dots. None takes a leaf away."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"dataset": "digits", "train_images": 30, "test_images": 20, "size_px": 32, "flip": False},
        "backbone": {"name": "package/efficientnet_lite0"},
        "method": {"name": "smile", "gamma_fe": GAMMA, "alpha": ALPHA},
        "training": {"num_steps": 2, "batch_size": 8, "learning_rate": 0.01},
        "search": {"trials": 6, "folds": 2, "repeats": 1, "baselines": []},
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


def fold(number: int, val_top1: float, duration_s: float = 1.0) -> FoldResult:
    return FoldResult(number, val_top1, duration_s)


def record(
    number: int, scores: Sequence[float] = (), state: Any = "complete", params: Mapping[str, Any] | None = None
) -> TrialRecord:
    folds = [fold(k, score) for k, score in enumerate(scores, start=1)]
    return TrialRecord(number, dict(params or {}), 0.0, state=state, folds=folds, ended_s=1.0)


def with_losses(trial: TrialRecord, losses: Sequence[float] | None = None) -> TrialRecord:
    """The trial of a search for the least log loss, with these losses in its folds; by default 1 − top-1."""
    losses = [1 - fold.val_top1 for fold in trial.folds] if losses is None else losses
    trial.folds = [replace(fold, metrics={"log_loss": loss}) for fold, loss in zip(trial.folds, losses, strict=True)]
    trial.objective = Objective("log_loss")
    return trial


def history_of(*records: TrialRecord) -> SearchHistory:
    return SearchHistory(trials={trial.number: trial for trial in records})


def search_journal(directory: Path) -> SearchJournal:
    return open_search_journal(RunDirectory(directory))


def search_started(space: SearchExperiment | None = None, run: str = "run", **changes: Any) -> SearchStarted:
    """The event with which a command begins to work on `space`."""
    space = space or space_of()
    return SearchStarted(name=space.name, run=run, space=space.as_tree(), dimensions=space.dimension_words, **changes)


def add_trial(
    journal: SearchJournal, number: int, scores: Sequence[float], state: Any = "complete", reason: str = ""
) -> None:
    """A whole trial; one that is `running` is left without its end."""
    params = {"method.gamma_fe": 0.05, "method.alpha": 0.5}
    journal.append(TrialStarted(trial=number, params=params, source="sampler"))
    for k, score in enumerate(scores, start=1):
        journal.append(FoldFinished(trial=number, result=fold(k, score)))
    if state != "running":
        journal.append(TrialEnded(trial=number, state=state, reason=reason))


def baseline_events(name: Baseline, scores: Sequence[float], test_scores: Sequence[float] = ()) -> list[Event]:
    """The events of a whole baseline, and of its retrainings with as many seeds as there are test scores."""
    config = flatten(baseline_config(space_of(), name).model_dump(mode="json"))
    started = BaselineStarted(baseline=name, config=config, num_folds=len(scores))
    folds = [BaselineFoldFinished(baseline=name, result=fold(k, score)) for k, score in enumerate(scores, start=1)]
    retrained = [RetrainResult(seed, score, 1.0, [], {}) for seed, score in enumerate(test_scores)]
    return [started, *folds, *(BaselineRetrained(baseline=name, result=result) for result in retrained)]


def baseline_of(name: Baseline, *scores: float) -> BaselineRecord:
    results = {k: fold(k, score) for k, score in enumerate(scores, start=1)}
    return BaselineRecord(name, num_folds=len(scores), results=results)


def events_in(file: Path) -> list[dict[str, Any]]:
    """The lines of a journal as they stand there, without its header."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][1:]
