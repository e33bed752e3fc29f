"""The story of a search with Ray and MLflow left out: what is chosen, by what, and when the test split is met."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.tiny import fold, search_journal, space_of
from trainables.data.images import LabelledImages
from trainables.results import RetrainResult
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.tasks import GpuOutOfMemory
from tuner.execution import run_search
from tuner.execution.run_search import retrain_best, search_started, search_trials
from tuner.experiment.checks import load_images
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import ResourceSettings
from tuner.record.create import new_run
from tuner.record.events import FoldFinished, TrialEnded, TrialStarted
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.record.selection import best_trial
from tuner.resources.share import Capacity, Share, share_of
from tuner.scheduling.scheduler import Decision, TrialScheduler

SHARE = Share(1, 0, 1)


def best_of(journal: SearchJournal) -> int:
    best = best_trial(journal.history.trials.values())
    assert best is not None
    return best.number


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Trials whose score is alpha, and retrainings that say what they were given. `poison` is what a test score is."""
    state: dict[str, Any] = {"poison": 0.5, "searching": False, "retrained": [], "test_loads": 0}

    def run_trials(scheduler: TrialScheduler, images: Any, share: Share) -> None:
        state["searching"] = True
        while (assignment := scheduler.next_assignment()) is not None:
            for k in range(1, assignment.num_folds + 1):
                if scheduler.fold_finished(assignment.number, fold(k, assignment.config.method.alpha)) is Decision.STOP:
                    break
        state["searching"] = False

    def load_test(data: Any) -> LabelledImages:
        assert not state["searching"]
        state["test_loads"] += 1
        return LabelledImages.__new__(LabelledImages)

    def retrain(config: Any, seeds: list[int], *_: Any) -> Iterator[RetrainResult]:
        state["retrained"].append((config.method.alpha, seeds))
        for seed in seeds:
            yield RetrainResult(seed, state["poison"], 1.0, [], {})

    monkeypatch.setattr(run_search, "run_trials", run_trials)
    monkeypatch.setattr(run_search, "load_test", load_test)
    monkeypatch.setattr(run_search, "retrain", retrain)
    return state


def run(space: SearchExperiment, directory: Path, share: Share = SHARE) -> SearchJournal:
    """The trials and the retraining, without what comes before and after them."""
    journal = search_journal(directory)
    images = load_images(space)
    progress = SearchProgress(Console(file=io.StringIO()), space, space.search.trials, 1)
    search_trials(space, images, share, journal, progress)
    best = best_trial(journal.history.trials.values())
    if best is not None and space.retrain.seeds:
        retrain_best(space, best, images, share, journal)
    return journal


def test_what_validation_has_chosen_is_retrained_with_every_seed(tmp_path: Path, fake: dict[str, Any]) -> None:
    journal = run(space_of(), tmp_path)
    best = max(journal.history.trials.values(), key=lambda trial: trial.params["method.alpha"])
    assert fake["retrained"] == [(best.params["method.alpha"], [0, 1, 2])]
    assert list(journal.history.retrainings(best.number)) == [0, 1, 2]


def test_a_retraining_that_finds_its_card_full_is_given_more(
    tmp_path: Path, fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[float, list[int]]] = []

    def retrain(config: Any, seeds: list[int], train: Any, test: Any, share: Share, *_: Any) -> Iterator[RetrainResult]:
        given.append((share.gpus, seeds))
        for seed in seeds:
            if share.gpus < 1 and seed == 1:
                raise GpuOutOfMemory("CUDA out of memory")
            yield RetrainResult(seed, 0.5, 1.0, [], {})

    monkeypatch.setattr(run_search, "retrain", retrain)
    share = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.25)
    journal = run(space_of(), tmp_path, share)
    assert given == [(0.25, [0, 1, 2]), (0.5, [1, 2]), (1, [1, 2])]
    assert len(journal.history.retrainings(best_of(journal))) == 3


def test_nothing_chooses_by_the_test_split(tmp_path: Path, fake: dict[str, Any]) -> None:
    chosen = []
    for poison in (0.0, 1.0):
        fake["poison"] = poison
        trials = run(space_of(), tmp_path / str(poison)).history.trials.values()
        best = best_trial(trials)
        assert best is not None
        chosen.append((best.number, [trial.params for trial in trials]))
    assert chosen[0] == chosen[1]
    assert fake["retrained"][0] == fake["retrained"][1]


def test_the_test_split_is_not_loaded_before_retraining(
    tmp_path: Path, fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: Any) -> LabelledImages:
        raise AssertionError("the test split was loaded")

    monkeypatch.setattr(run_search, "load_test", refuse)
    monkeypatch.setattr("trainables.data.loading.load_test", refuse)
    run(space_of(retrain__seeds=0), tmp_path / "none")
    with pytest.raises(AssertionError, match="the test split was loaded"):
        run(space_of(retrain__seeds=1), tmp_path / "one")


def test_what_is_retrained_is_not_repeated_unless_there_is_another_best(tmp_path: Path, fake: dict[str, Any]) -> None:
    two = run(space_of(search__trials=2), tmp_path)
    run(space_of(search__trials=2), tmp_path)
    assert len(fake["retrained"]) == fake["test_loads"] == 1
    params = {"method.gamma_fe": 0.02, "method.alpha": 1.0}
    two.append(TrialStarted(trial=2, params=params, source="sampler"))
    for k in (1, 2):
        two.append(FoldFinished(trial=2, result=fold(k, 1.0)))
    two.append(TrialEnded(trial=2, state="complete"))
    three = run(space_of(search__trials=3), tmp_path)
    assert fake["retrained"][1:] == [(1.0, [0, 1, 2])]
    assert list(three.history.retrainings(2)) == [0, 1, 2]


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
