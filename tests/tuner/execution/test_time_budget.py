"""What a search with minutes does before its first event: it times, says what fits, or refuses."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.tiny import add_trial, search_journal, space_of
from trainables.errors import BadInput
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.tasks import GpuOutOfMemory
from tuner.execution import time_budget
from tuner.execution.run_search import search_started
from tuner.execution.time_budget import timed_scope
from tuner.experiment.checks import check_experiment
from tuner.experiment.timing import StepTimes
from tuner.record.journal import SearchJournal
from tuner.resources.share import Share
from tuner.scheduling.scope import Scope


@pytest.fixture
def journal(tmp_path: Path) -> SearchJournal:
    return search_journal(tmp_path)


def timed(
    monkeypatch: pytest.MonkeyPatch, journal: SearchJournal, now_s: float = 110.0, **changes: Any
) -> tuple[Scope | None, SearchProgress, str]:
    """Two places, trainings of which each step takes a second, a command that began at 100 s and is at `now_s`."""
    monkeypatch.setattr(time_budget, "probe_step_times", lambda *_: (StepTimes(1.0, 1.0, 0.0), 0.0))
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(monotonic=lambda: now_s))
    screen, space = io.StringIO(), space_of(retrain__seeds=4, **changes)
    observer = SearchProgress(Console(file=screen, width=200), space, space.search.trials, 1)
    context: Any = SimpleNamespace(share=Share(1, 0, 2), journal=journal)
    scope = timed_scope(context, check_experiment(space), {}, observer, started_s=100.0)
    return scope, observer, screen.getvalue()


def test_without_minutes_nothing_is_timed(monkeypatch: pytest.MonkeyPatch, journal: SearchJournal) -> None:
    scope, observer, said = timed(monkeypatch, journal)
    assert (scope, observer.deadline_s, said) == (None, None, "")


def test_says_what_fits_and_until_when(monkeypatch: pytest.MonkeyPatch, journal: SearchJournal) -> None:
    scope, observer, said = timed(monkeypatch, journal, search__minutes=1, search__trials=None)
    assert scope is not None
    budget = scope.budget
    assert (budget.started_s, budget.limit_s, budget.places) == (100.0, 60.0, 2)
    assert observer.deadline_s == 160.0
    # 60 s without 10 s that have passed, two rounds of retrainings of 3 s, and 10 s of the end; trials of two folds
    assert "timing a training" in said
    assert "1 minutes: about 10 trials of 2 folds (3.0 s a fold) and 4 retrainings (3.0 s each)" in said


def test_too_few_minutes_are_refused_before_the_first_event(
    monkeypatch: pytest.MonkeyPatch, journal: SearchJournal
) -> None:
    with pytest.raises(BadInput, match=r"tiny.yaml: search.minutes: expected at least 0.4 minutes for 1 trial of"):
        timed(monkeypatch, journal, search__minutes=0.39)
    journal.close()
    assert not journal.directory.has_begun


def test_waiting_for_a_gpu_is_no_part_of_every_start(monkeypatch: pytest.MonkeyPatch, journal: SearchJournal) -> None:
    """It has passed, and does not come again before the retraining."""
    clock_s = iter([110.0, 170.0, 170.0])
    monkeypatch.setattr(time_budget, "probe_step_times", lambda *_: (StepTimes(1.0, 1.0, 0.0), 55.0))
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(monotonic=lambda: next(clock_s)))
    space = space_of(search__minutes=10)
    observer = SearchProgress(Console(file=io.StringIO()), space, space.search.trials, 1)
    context: Any = SimpleNamespace(share=Share(1, 0, 2), journal=journal)
    scope = timed_scope(context, check_experiment(space), {}, observer, started_s=100.0)
    assert scope is not None
    assert scope.budget.startup_s == 5


def test_a_training_that_cannot_be_timed_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, journal: SearchJournal
) -> None:
    def fail(*_: Any) -> None:
        raise GpuOutOfMemory("CUDA out of memory", 1)

    monkeypatch.setattr(time_budget, "probe_step_times", fail)
    space = space_of(search__minutes=10)
    observer = SearchProgress(Console(file=io.StringIO()), space, space.search.trials, 1)
    context: Any = SimpleNamespace(share=Share(1, 0, 2), journal=journal)
    expected = r"search.minutes: expected a training of which some steps can be timed, got CUDA out of memory"
    with pytest.raises(BadInput, match=expected):
        timed_scope(context, check_experiment(space), {}, observer, started_s=100.0)


def test_a_resumed_search_with_a_result_is_not_refused(monkeypatch: pytest.MonkeyPatch, journal: SearchJournal) -> None:
    add_trial(journal, 0, [0.5, 0.5])
    assert timed(monkeypatch, journal, search__minutes=0.4)[0] is not None


def test_trainings_are_shortened_at_the_first_start_alone(
    monkeypatch: pytest.MonkeyPatch, journal: SearchJournal
) -> None:
    scope, _, said = timed(monkeypatch, journal, search__minutes=0.4)
    assert scope is not None
    assert (scope.plan.num_steps, scope.plan.training_length) == (1, 0.5)
    assert "left out for want of time: 2 further retrainings of the best, 1 of 2 steps of a training" in said
    journal.append(search_started(scope.plan.space, journal.directory, training_length=0.5))
    with pytest.raises(BadInput, match=r"tiny.yaml: search.minutes: expected at least 0.5 minutes for 1 trial of"):
        timed(monkeypatch, journal, search__minutes=0.4)
