"""Run directories of searches that never ran, to report on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.tuner.tiny import search_started, space_of
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
    baselines: Iterable[Event] = (),
) -> RunDirectory:
    """Writes a search of `tiny`; `why` is None where it was cut off. `baselines` are events before the first trial."""
    space = space or space_of()
    directory = RunDirectory(folder)
    with closing(open_search_journal(directory)) as journal:
        journal.append(search_started(space, directory.run))
        for event in baselines:
            journal.append(event)
        for number, (state, scores, reason) in enumerate(trials):
            params = params_of(number) if space.dimensions else {}
            journal.append(TrialStarted(trial=number, params=params, source="first_point"))
            for k, score in enumerate(scores, start=1):
                journal.append(FoldFinished(trial=number, result=fold(k, score)))
            if state != "running":
                journal.append(TrialEnded(trial=number, state=state, reason=reason))
        if why is not None:
            journal.append(SearchEnded(outcome=outcome, why=why, best_trial=1, duration_s=1.0))
    (environment or Environment()).write(directory)
    return directory


def many(count: int) -> list[Ended]:
    """Complete trials whose score depends on alpha, which `params_of` makes grow with the number."""
    return [("complete", (0.9 - 0.01 * number, 0.9 - 0.012 * number), "") for number in range(count)]
