"""The story of a search with Ray and MLflow left out: what is chosen, by what, and when the test split is met."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.tiny import fold, search_journal, space_of
from trainables.results import RetrainResult
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.probes import SharedProbes
from tuner.cluster.worker_reports import FoldDone
from tuner.execution import retraining, run_baselines, run_search
from tuner.execution.retraining import retrain_contenders
from tuner.execution.run_search import num_jobs_left, search_started, search_trials
from tuner.experiment.checks import Plan, check_experiment, load_images
from tuner.experiment.precision import Precisions
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.create import new_run
from tuner.record.events import FoldFinished, TrialEnded, TrialStarted
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.record.selection import best_trial
from tuner.resources.share import Share
from tuner.scheduling.scheduler import Decision, TrialScheduler

SHARE = Share(1, 0, 1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Trials whose score is alpha, and retrainings that say what they were given. `poison` is what a test score is.

    Every fold of a baseline scores `baseline`; `told` is what was done, in its order.
    """
    state: dict[str, Any] = {"poison": 0.5, "baseline": 0.0, "retrained": [], "told": []}

    def run_trials(scheduler: TrialScheduler, *_: Any) -> None:
        state["told"].append("trials")
        while (assignment := scheduler.next_assignment()) is not None:
            for k in range(1, assignment.num_folds + 1):
                if scheduler.fold_finished(assignment.number, fold(k, assignment.config.method.alpha)) is Decision.STOP:
                    break

    def train_baseline(name: str, config: Any, folds: list[int], *_: Any) -> Iterator[FoldDone]:
        state["told"].append(name)
        for k in folds:
            yield FoldDone(fold(k, state["baseline"]))

    def retrain(retrainings: list[Any], *_: Any) -> Iterator[Any]:
        state["told"].append("retraining")
        state["retrained"].append([(each.of, each.seed, each.makes_model) for each in retrainings])
        for each in retrainings:
            yield each, RetrainResult(each.seed, state["poison"], 1.0, [], {})

    monkeypatch.setattr(run_search, "run_trials", run_trials)
    monkeypatch.setattr(run_baselines, "train_baseline", train_baseline)
    monkeypatch.setattr(run_baselines, "share_probes", lambda *_: SharedProbes({}))
    monkeypatch.setattr(retraining, "retrain", retrain)
    return state


def run(space: SearchExperiment, directory: Path) -> SearchJournal:
    """Baselines, trials and retraining, without what comes before and after them."""
    journal = search_journal(directory)
    images = load_images(space)
    progress = SearchProgress(Console(file=io.StringIO()), space, space.search.trials, 1)
    run_search.start_baselines(space, journal)
    probes = run_search.search_probes(space, images, SHARE, journal, progress)
    run_search.run_baselines(space, images, probes, SHARE, journal, progress)
    search_trials(space, images, SHARE, journal, progress, probes)
    retrain_contenders(space, images, probes, SHARE, journal, progress)
    return journal


def test_what_validation_has_chosen_is_retrained_with_every_seed(tmp_path: Path, fake: dict[str, Any]) -> None:
    journal = run(space_of(), tmp_path)
    best = max(journal.history.trials.values(), key=lambda trial: trial.params["method.alpha"])
    assert fake["retrained"] == [[(best.number, 0, True), (best.number, 1, False), (best.number, 2, False)]]
    assert list(journal.history.retrainings(best.number)) == [0, 1, 2]


def test_baselines_come_first_and_are_retrained_beside_the_best(tmp_path: Path, fake: dict[str, Any]) -> None:
    both = ["linear_probe", "fine_tuning"]
    journal = run(space_of(search__baselines=both, retrain__seeds=2), tmp_path)
    assert fake["told"] == [*both, "trials", "retraining"]
    best = best_trial(journal.history.trials.values())
    assert best is not None
    retrained = [(best.number, 0, True), (best.number, 1, False), ("linear_probe", 0, False)]
    assert fake["retrained"] == [[*retrained, ("fine_tuning", 0, False), ("fine_tuning", 1, False)]]


def test_nothing_chooses_by_the_test_split(tmp_path: Path, fake: dict[str, Any]) -> None:
    chosen = []
    for poison in (0.0, 1.0):
        fake["poison"] = poison
        space = space_of(search__baselines=["fine_tuning"])
        trials = run(space, tmp_path / str(poison)).history.trials.values()
        best = best_trial(trials)
        assert best is not None
        chosen.append((best.number, [trial.params for trial in trials]))
    assert chosen[0] == chosen[1]
    assert fake["retrained"][0] == fake["retrained"][1]


def test_what_is_retrained_is_not_repeated_unless_there_is_another_best(tmp_path: Path, fake: dict[str, Any]) -> None:
    settings = {"search__baselines": ["linear_probe"], "retrain__seeds": 2}
    two = run(space_of(search__trials=2, **settings), tmp_path)
    run(space_of(search__trials=2, **settings), tmp_path)
    assert len(fake["retrained"]) == 1
    params = {"method.gamma_fe": 0.02, "method.alpha": 1.0}
    two.append(TrialStarted(trial=2, params=params, source="sampler"))
    for k in (1, 2):
        two.append(FoldFinished(trial=2, result=fold(k, 1.0)))
    two.append(TrialEnded(trial=2, state="complete"))
    three = run(space_of(search__trials=3, **settings), tmp_path)
    assert fake["retrained"][1:] == [[(2, 0, True), (2, 1, False)]]
    assert list(three.history.retrainings(2)) == [0, 1]


def test_an_earlier_search_is_taken_up_and_said(tmp_path: Path, fake: dict[str, Any]) -> None:
    settings = {"tracking__directory": str(tmp_path), "retrain__seeds": 0}
    earlier = space_of(name="earlier", **settings)
    directory = new_run(earlier)
    with contextlib.closing(open_search_journal(directory)) as journal:
        journal.append(search_started(earlier, directory))
    tried = [trial.params for trial in run(earlier, directory.path).history.trials.values()]
    journal = run(space_of(name="later", search__warm_start="earlier", **settings), tmp_path / "later" / "now")
    assert journal.history.warm_started is not None
    assert [trial.params for trial in journal.history.warm_started.trials] == tried
    assert list(journal.history.trials) == list(range(6))


def test_a_resumed_search_keeps_the_length_of_its_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reached(Exception):
        pass

    def timed_scope(context: Any, plan: Plan, *_: Any) -> None:
        raise Reached(plan.num_steps, plan.space.trial_config(next(plan.space.boundary_points())).training.num_steps)

    monkeypatch.setattr(run_search, "timed_scope", timed_scope)
    monkeypatch.setattr(run_search, "decided_precisions", lambda *_: Precisions())
    space, journal = space_of(training__num_steps=100), search_journal(tmp_path)
    context: Any = SimpleNamespace(share=SHARE, journal=journal)
    progress = SearchProgress(Console(file=io.StringIO()), space, space.search.trials, 1)
    for num_steps in (100, 50):
        with pytest.raises(Reached) as caught:
            run_search.run_search(context, space, check_experiment(space), {}, progress)
        assert caught.value.args == (num_steps, num_steps)
        journal.append(search_started(space, journal.directory, training_length=0.5))


@pytest.mark.parametrize(("in_parallel", "left"), [("auto", 2 * 3 + (3 - 1)), (True, 2 * 3 + (3 - 1)), (False, 3)])
def test_what_workers_may_do_beside_each_other_is_what_is_left(
    tmp_path: Path, in_parallel: bool | str, left: int
) -> None:
    """Of a resumed search the trials that have ended no longer fill any GPU."""
    space = space_of(search__trials=5, search__folds=3, search__repeats=1, search__folds_in_parallel=in_parallel)
    journal = search_journal(tmp_path)
    assert num_jobs_left(space, journal.history) == (5 if in_parallel is False else 15)
    scheduler = TrialScheduler(space, journal)
    for _ in range(3):
        scheduler.next_assignment()
    scheduler.trial_failed(0, 1, "diverged")
    scheduler.trial_failed(1, 1, "diverged")
    scheduler.fold_finished(2, fold(1, 0.5))
    assert num_jobs_left(space, journal.history) == left
    assert num_jobs_left(space_of(search__trials=None, search__minutes=1), journal.history) is None
