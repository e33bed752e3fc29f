"""Run directories of searches that never ran, to report on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.tuner.tiny import METHODS, TRAININGS, search_started, space_of
from trainables.results import FoldResult
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import Event, FoldFinished, Outcome, SearchEnded, TrialEnded, TrialStarted
from tuner.record.journal import open_search_journal

Ended = tuple[Any, Sequence[float], str]
"""State, fold scores and reason of a trial."""

MIXED: tuple[Ended, ...] = (
    ("complete", (0.5, 0.6), ""),
    ("complete", (0.8, 0.9), ""),
    ("pruned", (0.2,), "after 1 of 2 folds 0.6000 behind trial-0001"),
    ("failed", (), "fold 1 diverged: feature is not finite at step 2"),
)


def params_of(number: int) -> dict[str, Any]:
    return {"method.gamma_fe": 0.01 * 1.05**number, "method.alpha": round(0.1 + 0.02 * number, 4)}


def fold(number: int, score: float) -> FoldResult:
    curves = {"target_label": [2.0, 1.0 - score / 2], "feature": [0.5, 0.25]}
    return FoldResult(number, score, duration_s=3.0, loss_steps=[1, 2], loss_terms=curves)


def write_search(
    folder: Path,
    trials: Iterable[Ended] = MIXED,
    space: SearchExperiment | None = None,
    why: str | None = "all 4 trials have ended",
    outcome: Outcome = "finished",
    environment: Environment | None = None,
    points: Sequence[Mapping[str, Any]] | None = None,
    baselines: Iterable[Event] = (),
    fold_of: Callable[[int, float], FoldResult] = fold,
) -> RunDirectory:
    """Writes a search of `tiny`; `why` is None where it was cut off. `points` are those of the trials, in order,
    `baselines` events before the first trial, and `fold_of` makes the result of a fold of its score."""
    space = space or space_of()
    directory = RunDirectory(folder)
    with closing(open_search_journal(directory)) as journal:
        journal.append(search_started(space, directory.run))
        for event in baselines:
            journal.append(event)
        for number, (state, scores, reason) in enumerate(trials):
            params = dict(points[number]) if points is not None else params_of(number) if space.dimensions else {}
            journal.append(TrialStarted(trial=number, params=params, source="first_point"))
            for k, score in enumerate(scores, start=1):
                journal.append(FoldFinished(trial=number, result=fold_of(k, score)))
            if state != "running":
                journal.append(TrialEnded(trial=number, state=state, reason=reason))
        if why is not None:
            journal.append(SearchEnded(outcome=outcome, why=why, best_trial=1, duration_s=1.0))
    (environment or Environment()).write(directory)
    return directory


def many(count: int) -> list[Ended]:
    """Complete trials whose score depends on alpha, which `params_of` makes grow with the number."""
    return [("complete", (0.9 - 0.01 * number, 0.9 - 0.012 * number), "") for number in range(count)]


def alternatives(count: int) -> tuple[SearchExperiment, list[dict[str, Any]], list[Ended]]:
    """A space with alternatives of method and training, points of it, and trials there: SMILE is best, at a small
    alpha, and frozen BatchNorm by a little; every seventh was stopped early."""
    momentum = {"momentum": {"uniform": [0.5, 0.9]}}
    space = space_of(method=METHODS, training=TRAININGS | momentum, search__trials=count)
    rng = random.Random(0)
    points: list[dict[str, Any]] = []
    trials: list[Ended] = []
    for number in range(count):
        labels = {key: rng.choice(list(each.fixed)) for key, each in space.branches.alternatives.items()}
        point: dict[str, Any] = {}
        for key in space.branches.active(space.dimensions, labels):
            values = space.dimensions[key].boundary_values()
            point[key] = labels[key] if key in labels else rng.uniform(float(str(values[0])), float(str(values[1])))
        alpha = next((value for key, value in point.items() if key.endswith(".alpha")), 0.5)
        mean = {"l2": 0.86, "mixup": 0.88, "smile": 0.92}[point["method"]] - 0.05 * alpha
        mean += 0.01 * (point["training"] == "frozen") + rng.gauss(0, 0.004)
        points.append(point)
        is_stopped = number % 7 == 6
        scores = (mean - 0.03,) if is_stopped else (mean - 0.01, mean + 0.01)
        trials.append(("pruned" if is_stopped else "complete", scores, "behind" if is_stopped else ""))
    return space, points, trials
