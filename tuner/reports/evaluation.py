"""Evaluation of the models of a search by their predictions: what they score, and on which examples they are wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from trainables.calibration import fitted_temperature, with_temperature
from trainables.class_scores import ShareRight
from trainables.metrics import MetricValue, confusion_counts, metrics_with_intervals
from trainables.predictions import Ints, Predictions
from tuner.record.baselines import BaselineRecord
from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.predictions import PredictionFiles
from tuner.record.selection import best_trial, winner_of

Split = Literal["validation", "test"]
MODEL_SEED = 0
MAX_LABEL_ISSUES = 200
_INTERVALS: dict[bytes, dict[str, MetricValue]] = {}
"""Metrics with their intervals of the predictions that this process has evaluated, by a hash of these."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of one model of a split: out of fold of the training examples, or of the test split.

    `model` is `trial-0005` or a baseline; `network` says which retraining: `seed 0`, `ensemble`, "" out of fold.
    """

    model: str
    split: Split
    network: str
    predictions: Predictions

    @cached_property
    def metrics(self) -> dict[str, MetricValue]:
        """Every metric with the interval that counts the examples."""
        return metrics_of(self.predictions)

    @cached_property
    def confusion(self) -> Ints:
        """Counts K×K of the examples by label (row) and prediction (column)."""
        return confusion_counts(self.predictions.probabilities, self.predictions.labels)

    def class_accuracies(self) -> list[ShareRight]:
        """The accuracy of each class, in the order of the classes."""
        rights, counts = np.diag(self.confusion).tolist(), self.confusion.sum(axis=1).tolist()
        return [ShareRight(num_right=right, num=count) for right, count in zip(rights, counts, strict=True)]

    def mistakes(self) -> Ints:
        """Positions in the predictions of those that are wrong, the surest first."""
        shares = self.predictions.probabilities
        wrong = np.flatnonzero(shares.argmax(axis=1) != self.predictions.labels)
        return wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")]

    def label_issues(self) -> Ints:
        """Positions in the predictions of labels that are probably wrong, the most probable first.

        By confident learning (Northcutt et al., 2021, https://arxiv.org/abs/1911.00068), which takes probabilities out
        of fold, as cleanlab has it.
        """
        from cleanlab.filter import find_label_issues  # slow to import

        present = np.unique(self.predictions.labels)
        if len(present) < 2:
            return np.empty(0, dtype=np.int64)
        labels = np.searchsorted(present, self.predictions.labels)
        shares = self.predictions.probabilities[:, present].astype(np.float64).clip(min=1e-12)
        shares /= shares.sum(axis=1, keepdims=True)
        ranked = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        found = find_label_issues(labels, shares, filter_by="confident_learning", **ranked)
        return np.asarray(found, dtype=np.int64)[:MAX_LABEL_ISSUES]


@dataclass(frozen=True)
class Calibration:
    """Temperature that was fitted on predictions out of fold, and the metrics before and after."""

    temperature: float
    before: dict[str, MetricValue]
    after: dict[str, MetricValue]


def calibration_of(evaluation: Evaluation) -> Calibration:
    """Fits the temperature on predictions out of fold, in which it is as many examples as there are for one number."""
    predictions, temperature = evaluation.predictions, fitted_temperature(evaluation.predictions)
    scaled = replace(predictions, probabilities=with_temperature(predictions.probabilities, temperature))
    return Calibration(temperature, evaluation.metrics, metrics_of(scaled))


def metrics_of(predictions: Predictions) -> dict[str, MetricValue]:
    """Every metric of the predictions with its interval.

    The result of a search, its model card and its report have the same: the resampling is done once in a process.
    """
    digest = hashlib.blake2b(predictions.probabilities.tobytes(), digest_size=16)
    digest.update(predictions.labels.tobytes())
    key = digest.digest()
    if key not in _INTERVALS:
        _INTERVALS[key] = metrics_with_intervals(predictions.probabilities, predictions.labels)
    return dict(_INTERVALS[key])


def evaluations_of(directory: RunDirectory, history: SearchHistory) -> Iterator[Evaluation]:
    """Yields what was predicted, as far as it is kept: out of fold by the best trial and each baseline, then of the
    test split by each retrained network of theirs, and by the ensemble."""
    files = PredictionFiles(directory)
    for record in _contenders(history):
        if (kept := files.out_of_fold(record.key)) is not None:
            yield Evaluation(_name(record), "validation", "", kept)
    for record in _contenders(history):
        for seed in files.test_seeds(record.key):
            if (kept := files.test(record.key, seed)) is not None:
                yield Evaluation(_name(record), "test", f"seed {seed}", kept)
        if (kept := files.test(record.key, None)) is not None:
            yield Evaluation(_name(record), "test", "ensemble", kept)


@dataclass(frozen=True, eq=False)
class ModelEvaluation:
    """Evaluation of the winner of a search: out of fold, and on the test split as the model that it became."""

    names: ExampleNames
    validation: Evaluation
    test: Evaluation | None


def model_evaluation(directory: RunDirectory, history: SearchHistory) -> ModelEvaluation | None:
    """Returns the evaluation of the winner; None where its predictions are not kept."""
    winner = winner_of(history.trials.values(), history.baselines.values())
    names = ExampleNames.read(directory)
    if winner is None or names is None:
        return None
    own = [each for each in evaluations_of(directory, history) if each.model == _name(winner)]
    validation = next((each for each in own if each.split == "validation"), None)
    if validation is None:
        return None
    network = "ensemble" if history.ensemble(winner.key) is not None else f"seed {MODEL_SEED}"
    test = next((each for each in own if each.split == "test" and each.network == network), None)
    return ModelEvaluation(names, validation, test)


def _contenders(history: SearchHistory) -> Iterator[TrialRecord | BaselineRecord]:
    if (best := best_trial(history.trials.values())) is not None:
        yield best
    yield from history.baselines.values()


def _name(record: TrialRecord | BaselineRecord) -> str:
    return record.name if isinstance(record, BaselineRecord) else record.trial_id
