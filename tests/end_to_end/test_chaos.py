"""A search survives whatever cuts it off: a round of each kind. `make chaos` draws twenty at random.

By day: `test_failures.py` kills a worker, `test_resume.py` a driver and `test_interruptions.py` a raylet; the last also
closes the terminal and removes the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.chaos import KINDS, SEEDS, TRIALS, Kill, Kind, Round, check_journal, run_round, undisturbed
from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import add_trial, fold
from trainables.results import RetrainResult
from tuner.record.directory import RunDirectory
from tuner.record.events import FoldFinished, RetrainingFinished
from tuner.record.journal import SearchJournal, open_search_journal

pytestmark = MLFLOW_LEAKS

AFTER_EVENTS = 4
"""In the middle of the trials: the search and a trial have started, and that trial has its folds."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    outcome, _ = undisturbed(tmp_path_factory.mktemp("undisturbed"))
    return outcome


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_a_search_whose_process_is_killed_comes_to_the_same(
    kind: Kind, expected: dict[str, Any], tmp_path: Path
) -> None:
    assert run_round(tmp_path, [Kill(kind, AFTER_EVENTS, 0.0)], expected) == []


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SearchJournal]:
    """Of a search that is in order, but that its trials are all alike."""
    with closing(open_search_journal(RunDirectory(tmp_path / "experiments" / "tiny" / "run"))) as journal:
        for number in range(TRIALS):
            add_trial(journal, number, [0.5, 0.6])
        for seed in range(SEEDS):
            journal.append(retraining_finished(seed))
        yield journal


def retraining_finished(seed: int) -> RetrainingFinished:
    return RetrainingFinished(trial=0, result=RetrainResult(seed, 0.5, 1.0, [], {}))


def problems_in(folder: Path) -> list[str]:
    this = Round(folder)
    check_journal(this)
    return this.problems


def test_a_configuration_twice_is_seen(journal: SearchJournal, tmp_path: Path) -> None:
    (problem,) = problems_in(tmp_path)
    assert problem.startswith("a configuration twice")


def test_a_fold_a_trial_or_a_retraining_too_many_is_seen(journal: SearchJournal, tmp_path: Path) -> None:
    journal.append(FoldFinished(trial=1, result=fold(2, 0.6)))
    add_trial(journal, TRIALS, [0.5, 0.6], "failed", "its worker died")
    journal.append(retraining_finished(seed=0))
    starts = {problem.partition(":")[0] for problem in problems_in(tmp_path)}
    assert starts >= {"trials started", "trials ended", "a fold twice", "ends of the trials", "retrainings"}
