"""Comparison of finished or running searches: their scores side by side, and the differences of their models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainables.frozen import Frozen
from trainables.metrics import MetricValue
from tuner.experiment.objective import ObjectiveName
from tuner.experiment.tree import flatten
from tuner.messages.wording import counted
from tuner.record.baselines import BaselineRecord
from tuner.record.configs import config_of
from tuner.record.data_record import read_inventories
from tuner.record.differences import Difference, example_difference
from tuner.record.events import TrialEnded
from tuner.record.history import TrialRecord
from tuner.record.selection import ranked
from tuner.reports.evaluation import model_evaluation
from tuner.reports.search_run import SearchRun
from tuner.reports.timeline import worked

NOT_COMPARED = ("name", "tracking.", "search.first_points")
"""Beginnings of the settings that make no difference to a score, or say what a search began with."""


class SearchRow(Frozen):
    """A search in the comparison. Validation scores are values of `objective`, test scores are top-1."""

    run: str
    """`name/run`."""
    directory: str
    state: str
    winner: str | None = None
    """Best trial or baseline whose model it is."""
    method: str = ""
    """Method of the winner."""
    objective: ObjectiveName
    val_score: float | None = None
    """Mean of the best trial over its folds."""
    test_top1_mean: float | None = None
    test_top1_sd: float | None = None
    num_seeds: int = 0
    """Retrainings of the best trial, which `test_top1_mean` is of."""
    model_test_top1: MetricValue | None = None
    """Of the model itself, with the interval that counts the test images."""
    baselines: dict[str, float | None]
    """Mean test score of each baseline by name; None where it was not retrained."""
    minutes: float
    num_trials: int


class ModelDifference(Frozen):
    """Difference of the test scores of two models, `run` − `reference`, paired over the test images.

    `why` says why there is no difference.
    """

    run: str
    reference: str
    difference: Difference | None = None
    why: str = ""


class SearchComparison(Frozen):
    """Comparison of searches. The differences are those of each other search to the first."""

    searches: tuple[SearchRow, ...]
    differences: tuple[ModelDifference, ...]
    settings: dict[str, tuple[Any, ...]]
    """Settings that differ by dotted path: the value in each search, None where it has no such setting."""

    def write(self, file: Path) -> None:
        """Writes the comparison as JSON. Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def compare_searches(runs: Sequence[SearchRun]) -> SearchComparison:
    """Compares searches that were read from their records; differences are to the first of them."""
    tested = [_tested(run) for run in runs]
    names = [run.directory.full_name for run in runs]
    return SearchComparison(
        searches=tuple(map(_row_of, runs)),
        differences=tuple(
            _difference(names[0], tested[0], name, other) for name, other in zip(names[1:], tested[1:], strict=True)
        ),
        settings=dict(_settings_that_differ(runs)),
    )


def _row_of(run: SearchRun) -> SearchRow:
    result, winner = run.result, run.winner
    model = result.metrics.get(result.winner or "", {}).get("test", {}).get("top1")
    ended = run.history.ended
    return SearchRow(
        run=run.directory.full_name,
        directory=result.directory,
        state="running" if run.is_running else "cut off" if ended is None else ended.outcome,
        winner=winner.label if isinstance(winner, BaselineRecord) else result.winner,
        method="" if winner is None else config_of(winner, run.space).method.name,
        objective=result.objective,
        val_score=result.val_score,
        test_top1_mean=result.test_top1_mean,
        test_top1_sd=result.test_top1_sd,
        num_seeds=len(result.test_scores),
        model_test_top1=model,
        baselines={name: baseline.test_top1_mean for name, baseline in result.baselines.items()},
        minutes=round(result.seconds / 60, 2),
        num_trials=len(run.history.trials),
    )


_Tested = dict[str, tuple[str, str, bool]]
"""Name of each test example → its class, the hash of its contents ("" if unknown), and whether the model is right."""


def _tested(run: SearchRun) -> _Tested:
    """What the model of a search said of each test example; empty where that is not kept."""
    evaluation = model_evaluation(run.directory, run.history)
    if evaluation is None or evaluation.test is None:
        return {}
    digests = {entry.name: entry.digest for each in read_inventories(run.directory) or () for entry in each}
    names, kept = evaluation.names, evaluation.test.predictions
    rows = zip(kept.index.tolist(), kept.labels.tolist(), kept.probabilities.argmax(axis=1).tolist(), strict=True)
    return {
        names.test[index]: (names.class_names[label], digests.get(names.test[index], ""), label == predicted)
        for index, label, predicted in rows
    }


def _difference(reference: str, first: _Tested, run: str, other: _Tested) -> ModelDifference:
    """Compares two models on their test images, if these are the same."""
    for name, tested in ((reference, first), (run, other)):
        if not tested:
            return ModelDifference(run=run, reference=reference, why=f"no test predictions of {name} are kept")
    common = [name for name in first if name in other and _is_same(first[name], other[name])]
    if not len(common) == len(first) == len(other):
        sizes = f"{counted(len(first), 'image')} and {len(other)}, of which {len(common)} are the same"
        return ModelDifference(run=run, reference=reference, why=f"their test images differ: {sizes}")
    right, of_first = ([tested[name][2] for name in common] for tested in (other, first))
    return ModelDifference(run=run, reference=reference, difference=example_difference(right, of_first))


def _is_same(one: tuple[str, str, bool], other: tuple[str, str, bool]) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or not one[1] or not other[1])


def _settings_that_differ(runs: Sequence[SearchRun]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    trees = [flatten(run.space.as_tree()) for run in runs]
    for path in dict.fromkeys(path for tree in trees for path in tree):
        values = tuple(tree.get(path) for tree in trees)
        if any(value != values[0] for value in values) and not path.startswith(NOT_COMPARED):
            yield path, values


def best_so_far(run: SearchRun) -> list[tuple[float, float]]:
    """Lists seconds of work and value of the best complete trial until then, a point for each improvement."""
    ended: list[TrialRecord] = []
    points: list[tuple[float, float]] = []
    for seconds, event in worked(run.events):
        if isinstance(event, TrialEnded) and event.state == "complete":
            ended.append(run.history.trials[event.trial])
            if ranked(ended)[0] is ended[-1] and ended[-1].value is not None:
                points.append((seconds, ended[-1].value))
    return points
