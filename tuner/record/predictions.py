"""Predictions in a run directory: of every fold of the trials that may still win and of the baselines, and of the test
split.

    predictions/trial-0007/fold-2.npz              of the validation part of a fold
    predictions/trial-0007/test-seed-0.npz         of the test split, by the network retrained with a seed
    predictions/linear_probe/test-ensemble.npz     of the test split, by the ensemble
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from trainables.files import write_whole
from trainables.predictions import Features, Predictions, mean_predictions
from tuner.record.directory import RunDirectory
from tuner.record.events import trial_id
from tuner.record.history import Contender

ENSEMBLE = "ensemble"


class PredictionFiles:
    """The predictions of a search. What is missing or cannot be read counts as not there: scores are in the journal."""

    def __init__(self, directory: RunDirectory) -> None:
        self._root = directory.predictions

    def add_fold(self, of: Contender, fold: int, predictions: Predictions) -> None:
        """Keeps the predictions of a fold. Raises OSError."""
        self._write(of, f"fold-{fold}", predictions)

    def add_test(self, of: Contender, seed: int | None, predictions: Predictions) -> None:
        """Keeps the predictions of the test split, by the retraining with a seed, or by the ensemble (None)."""
        self._write(of, _test_name(seed), replace(predictions, features=None))

    def out_of_fold(self, of: Contender) -> Predictions | None:
        """The mean prediction of each training example over the folds that validated it; None without a fold."""
        files = sorted(self._folder(of).glob("fold-*.npz"))
        parts = [part for file in files if (part := _read(file)) is not None]
        return mean_predictions(parts) if parts else None

    def features(self, of: Contender, num_folds: int) -> list[Features]:
        """The features of examples in the validation part of each of the first `num_folds` folds, which are one deal,
        as far as they are kept."""
        parts = [_read(self._folder(of) / f"fold-{fold}.npz") for fold in range(1, num_folds + 1)]
        return [part.features for part in parts if part is not None and part.features is not None]

    def test(self, of: Contender, seed: int | None) -> Predictions | None:
        """The predictions of the test split, by the retraining with a seed, or by the ensemble (None)."""
        return _read(self._folder(of) / f"{_test_name(seed)}.npz")

    def test_seeds(self, of: Contender) -> Iterator[int]:
        """Seeds of the retrainings whose predictions are kept, in order."""
        names = (re.fullmatch(r"test-seed-(\d+)", file.stem) for file in self._folder(of).glob("test-seed-*.npz"))
        yield from sorted(int(name[1]) for name in names if name is not None)

    def keep_trials(self, numbers: Collection[int]) -> None:
        """Removes what is kept of all other trials."""
        kept = {trial_id(number) for number in numbers}
        for folder in self._root.glob("trial-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, of: Contender) -> Path:
        return self._root / (trial_id(of) if isinstance(of, int) else of)

    def _write(self, of: Contender, name: str, predictions: Predictions) -> None:
        folder = self._folder(of)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{name}.npz", predictions.as_bytes())


def _test_name(seed: int | None) -> str:
    return f"test-{ENSEMBLE}" if seed is None else f"test-seed-{seed}"


def _read(file: Path) -> Predictions | None:
    try:
        return Predictions.from_bytes(file.read_bytes())
    except (OSError, TypeError, ValueError, KeyError, zipfile.BadZipFile):
        return None
