"""Standings: how the best trial of a search stands to each baseline, on validation and on the test split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.record.baselines import SEEDLESS, BaselineRecord
from tuner.record.differences import Difference, fold_difference, seed_difference
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.selection import best_trial


@dataclass(frozen=True)
class Standing:
    """A baseline beside the best trial. Differences are best trial − baseline, in values of the search's objective on
    validation, in top-1 on the test split.

    `test_scores` are the baseline's by the seed of its retrainings. `val` is paired over the folds, `test` over the
    seeds that both were retrained with; they are None where either has no score.
    """

    baseline: BaselineRecord
    test_scores: dict[int, float]
    val: Difference | None
    test: Difference | None


def standings_of(history: SearchHistory, num_parts: int) -> Iterator[Standing]:
    """Yields the standing of the best trial to each baseline, in their order.

    `num_parts` is the number of parts of the cross-validation (`search.folds`). The validation score of the best of
    many trials is optimistic, as it was chosen by it; a difference on the test split is not.
    """
    best = best_trial(history.trials.values())
    for baseline in history.baselines.values():
        tests = retraining_scores(history, baseline)
        val = test = None
        if best is not None and baseline.state == "complete" and len(baseline.folds) == len(best.folds):
            val = fold_difference(best.fold_values, baseline.fold_values, num_parts)
        if best is not None and tests:
            reference = tests[min(tests)] if baseline.name in SEEDLESS else tests
            test = seed_difference(retraining_scores(history, best), reference)
        yield Standing(baseline, tests, val, test)


def retraining_scores(history: SearchHistory, record: TrialRecord | BaselineRecord) -> dict[int, float]:
    """Returns the test top-1 of each retraining of a trial or of a baseline, by seed."""
    return {seed: result.test_top1 for seed, result in history.retrainings(record.key).items()}
