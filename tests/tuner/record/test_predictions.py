"""Predictions as files of a run directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.predictions import Predictions
from tuner.record.directory import RunDirectory
from tuner.record.predictions import PredictionFiles


def predictions(*index: int) -> Predictions:
    shares = np.full((len(index), 2), 0.5, dtype=np.float32)
    return Predictions(np.array(index), np.zeros(len(index), dtype=np.int64), shares)


@pytest.fixture
def files(tmp_path: Path) -> PredictionFiles:
    return PredictionFiles(RunDirectory(tmp_path))


def test_folds_of_a_trial_and_of_a_baseline(files: PredictionFiles) -> None:
    files.add_fold(7, 2, predictions(0, 3))
    files.add_fold(7, 1, predictions(1, 2))
    files.add_fold("linear_probe", 1, predictions(4))
    of_trial, of_probe = files.out_of_fold(7), files.out_of_fold("linear_probe")
    assert of_trial is not None
    assert of_probe is not None
    assert (of_trial.index.tolist(), of_probe.index.tolist()) == ([0, 1, 2, 3], [4])
    assert files.out_of_fold(8) is None


def test_features_are_those_of_one_deal_and_not_of_the_test_split(files: PredictionFiles) -> None:
    features = np.ones((1, 4), dtype=np.float16)
    for fold in (1, 2, 3, 4):
        files.add_fold(7, fold, replace(predictions(fold), features=fold * features))
    files.add_fold(8, 1, predictions(0))
    assert [part[0, 0] for part in files.features(7, num_folds=2)] == [1, 2]
    assert files.features(8, num_folds=2) == []
    files.add_test(7, 0, replace(predictions(0), features=features))
    of_test = files.test(7, 0)
    assert of_test is not None
    assert of_test.features is None


def test_the_test_split_by_seed_and_by_the_ensemble(files: PredictionFiles) -> None:
    for seed in (10, 2):
        files.add_test(7, seed, predictions(seed))
    files.add_test(7, None, predictions(99))
    assert list(files.test_seeds(7)) == [2, 10]
    second, ensemble = files.test(7, 2), files.test(7, None)
    assert second is not None
    assert ensemble is not None
    assert (second.index.tolist(), ensemble.index.tolist()) == ([2], [99])
    assert files.test("fine_tuning", None) is None


def test_trials_that_cannot_win_are_removed(files: PredictionFiles, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        files.add_fold(number, 1, predictions(0))
    files.add_fold("fine_tuning", 1, predictions(0))
    files.keep_trials({2})
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == ["fine_tuning", "trial-0002"]


def test_a_file_that_cannot_be_read_counts_as_missing(files: PredictionFiles, tmp_path: Path) -> None:
    files.add_fold(1, 1, predictions(0))
    files.add_fold(1, 2, predictions(1))
    (tmp_path / "predictions" / "trial-0001" / "fold-2.npz").write_bytes(b"torn")
    found = files.out_of_fold(1)
    assert found is not None
    assert found.index.tolist() == [0]
