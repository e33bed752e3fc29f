"""Predictions in the run directory of a search that never ran, to evaluate and to report on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import baseline_events
from trainables.data.images import LabelledImages
from trainables.predictions import Predictions
from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames
from tuner.record.history import SearchHistory
from tuner.record.predictions import PredictionFiles

CLASSES = ("apple", "pear", "<i>plum</i>")
NUM_TRAIN, NUM_TEST = 30, 12


def predictions(index: Any, seed: int, wrong: float = 0.2) -> Predictions:
    """Predictions of the examples at `index`, whose class is their position modulo three; a share is wrong."""
    rng = np.random.default_rng(seed)
    index = np.asarray(index)
    labels = index % 3
    named = np.where(rng.random(len(index)) < wrong, (labels + 1) % 3, labels)
    shares = rng.random((len(index), 3)) * 0.2 + np.eye(3)[named]
    return Predictions(index, labels, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def write_evaluated(folder: Path, tested: bool = True) -> tuple[RunDirectory, SearchHistory]:
    """A search whose best trial is 1, with a linear probe, and predictions of both."""
    directory = write_search(folder, baselines=baseline_events("linear_probe", [0.6, 0.6]))
    names = ExampleNames(
        class_names=CLASSES,
        train=tuple(f"train/{i}[copy].png" for i in range(NUM_TRAIN)),
        test=tuple(f"test/{i}.png" for i in range(NUM_TEST)),
    )
    names.write(directory)
    files = PredictionFiles(directory)
    parts = np.arange(NUM_TRAIN) % 2
    for of in (1, "linear_probe"):
        for fold in (1, 2):
            files.add_fold(of, fold, predictions(np.flatnonzero(parts == fold - 1), fold))  # type: ignore[arg-type]
    if tested:
        for seed in range(2):
            files.add_test(1, seed, predictions(np.arange(NUM_TEST), seed, wrong=0.4))
    return directory, SearchHistory.read(directory.journal)


def images(count: int, side_px: int = 16) -> LabelledImages:
    """Images of one grey each, which grows with their position."""
    pixels = np.repeat(np.arange(count, dtype=np.uint8), side_px**2 * 3).reshape(count, side_px, side_px, 3) * 5
    return LabelledImages.of(pixels, np.arange(count) % 3, CLASSES)
