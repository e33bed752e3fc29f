"""Experiment directories of searches that never ran, to report on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.tuner.tiny import space_of
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.journal import Journal

Ended = tuple[str, Sequence[float], str]
"""State, fold scores and reason of a trial."""

MIXED: tuple[Ended, ...] = (
    ("complete", (0.5, 0.6), ""),
    ("complete", (0.8, 0.9), ""),
    ("pruned", (0.2,), "after 1 of 2 folds 0.6000 behind trial-0001"),
    ("failed", (), "fold 1 diverged: feature is not finite at step 2"),
)


def params_of(number: int) -> dict[str, Any]:
    return {"gamma_fe": 0.01 * 1.05**number, "alpha": round(0.1 + 0.02 * number, 4)}


def fold(number: int, score: float) -> dict[str, Any]:
    curves = {"target_label": [2.0, 1.0 - score / 2], "feature": [0.5, 0.25]}
    return {"fold": number, "val_top1": score, "duration_s": 3.0, "loss_steps": [1, 2], "loss_terms": curves}


def write_search(
    directory: Path,
    trials: Iterable[Ended] = MIXED,
    space: SearchExperiment | None = None,
    why: str | None = "all 4 trials have ended",
    environment: dict[str, Any] | None = None,
) -> Path:
    """A search of `tiny`; `why` is None where it was cut off."""
    space = space or space_of()
    with closing(Journal(directory)) as journal:
        journal.append("search_started", name=space.name, run=directory.name, **space.described())
        for number, (state, scores, reason) in enumerate(trials):
            params = params_of(number) if space.dimensions else {}
            journal.append("trial_started", trial=number, params=params, config={}, source="first_point", attrs={})
            for k, score in enumerate(scores, start=1):
                journal.append("fold_finished", trial=number, result=fold(k, score))
            if state != "running":
                journal.append("trial_finished", trial=number, state=state, reason=reason)
        if why is not None:
            journal.append("search_finished", why=why, best_trial=1, seconds=1.0)
    (directory / "environment.json").write_text(json.dumps(environment or {}), encoding="utf-8")
    return directory


def many(count: int) -> list[Ended]:
    """Complete trials whose score depends on alpha, which `params_of` makes grow with the number."""
    return [("complete", (0.9 - 0.01 * number, 0.9 - 0.012 * number), "") for number in range(count)]
