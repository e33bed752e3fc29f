"""What is retrained: the winner, and what it is compared with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.tuner.prediction.tiny import save_model
from tests.tuner.tiny import add_trial, baseline_events, search_journal, space_of
from trainables.data.images import LabelledImages
from trainables.results import EnsembleResult, RetrainFailed, RetrainResult
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.retraining import Retraining
from tuner.cluster.tasks import GpuOutOfMemory, WorkerFailed
from tuner.execution import retraining
from tuner.execution.retraining import contenders, missing_retrainings, register, retrain_contenders
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import ResourceSettings
from tuner.record.events import BaselineRetrained, EnsembleTested, RetrainingFailed
from tuner.record.journal import SearchJournal
from tuner.resources.share import Capacity, Share, share_of
from tuner.tracking import registry

SHARE = Share(1, 0, 1)
SPACE = space_of(retrain__seeds=2)
Each = tuple[int | str, int, bool]


class Stage:
    """A search up to its retraining, with trials 0 (0.6) and 1 (0.8); retrainings fail as `raises` says."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal: SearchJournal = search_journal(directory)
        self.screen = io.StringIO()
        self.progress = SearchProgress(Console(file=self.screen), SPACE, 2, 1)
        self.given: list[tuple[float, list[Each]]] = []
        self.raises: dict[Each, Exception] = {}
        add_trial(self.journal, 0, [0.6, 0.6])
        add_trial(self.journal, 1, [0.8, 0.8])
        monkeypatch.setattr(retraining, "retrain", self.retrain)

    def add_baseline(self, name: Any, *scores: float) -> None:
        for event in baseline_events(name, scores):
            self.journal.append(event)

    def retrain(
        self, retrainings: list[Retraining], images: Any, probes: Any, share: Share, *_: Any
    ) -> Iterator[tuple[Retraining, RetrainResult | RetrainFailed]]:
        self.given.append((share.gpus, [(each.of, each.seed, each.makes_model) for each in retrainings]))
        for each in retrainings:
            place = (each.of, each.seed, each.makes_model)
            if place in self.raises and not (isinstance(self.raises[place], GpuOutOfMemory) and share.gpus == 1):
                raise self.raises[place]
            yield each, RetrainResult(each.seed, 0.5, 1.0, [], {})

    def run(self, space: SearchExperiment = SPACE, share: Share = SHARE) -> None:
        retrain_contenders(space, {}, {}, share, self.journal, self.progress)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_the_winner_comes_first_and_makes_the_model(stage: Stage) -> None:
    stage.add_baseline("linear_probe", 0.9, 0.9)
    stage.add_baseline("fine_tuning", 0.7, 0.7)
    stage.run()
    probe, trial, plain = [("linear_probe", 0, True)], [(1, 0, False), (1, 1, False)], [("fine_tuning", 0, False)]
    assert stage.given == [(0, [*probe, *trial, *plain, ("fine_tuning", 1, False)])]
    history = stage.journal.history
    assert [list(history.retrainings(of)) for of in ("linear_probe", 1, "fine_tuning", 0)] == [[0], [0, 1], [0, 1], []]
    stage.run()
    assert len(stage.given) == 1, "nothing is trained twice"


def test_a_baseline_that_is_not_complete_is_not_retrained(stage: Stage) -> None:
    started, first, _ = baseline_events("fine_tuning", [0.9, 0.9])
    stage.journal.append(started)
    stage.journal.append(first)
    assert [record.key for record in contenders(stage.journal.history)] == [1]


def test_without_seeds_nothing_is_retrained(stage: Stage) -> None:
    stage.add_baseline("linear_probe", 0.9, 0.9)
    stage.run(space_of(retrain__seeds=0))
    assert stage.given == []


def test_nothing_is_retrained_where_nothing_is_complete(tmp_path: Path) -> None:
    history = search_journal(tmp_path / "empty").history
    assert contenders(history) == []
    assert list(missing_retrainings(SPACE, [], history)) == []


def test_one_that_finds_its_card_full_is_given_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "spread_over_free", lambda share, num_jobs: share.spread_over(num_jobs))
    stage.raises = {(1, 1, False): GpuOutOfMemory("CUDA out of memory", 0.125)}
    share = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.25)
    stage.run(share=share)
    both, second = [(1, 0, True), (1, 1, False)], [(1, 1, False)]
    assert stage.given == [(0.5, both), (1, second)], "two trainings on one card have a half each to begin with"
    assert len(stage.journal.history.retrainings(1)) == 2


def test_a_baseline_whose_process_dies_does_not_take_the_model_along(stage: Stage) -> None:
    stage.add_baseline("fine_tuning", 0.7, 0.7)
    stage.raises = {("fine_tuning", 0, False): WorkerFailed("its process crashed")}
    stage.run()
    assert list(stage.journal.history.retrainings(1)) == [0, 1]
    assert "compared with could be retrained: its process crashed" in stage.screen.getvalue()


def test_a_winner_whose_process_dies_ends_the_search(stage: Stage) -> None:
    stage.add_baseline("fine_tuning", 0.7, 0.7)
    stage.raises = {(1, 1, False): WorkerFailed("its process crashed")}
    with pytest.raises(WorkerFailed):
        stage.run()


class TestEnsemble:
    """With `retrain.ensemble` the winner's networks are kept, and become one model once."""

    ENSEMBLE = space_of(retrain__seeds=2, retrain__ensemble=True)

    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
        """The seeds of each ensemble that was made."""
        calls: list[list[int]] = []

        def make_ensemble(of: Any, config: Any, seeds: list[int], *_: Any) -> EnsembleResult:
            calls.append(seeds)
            return EnsembleResult("weights", seeds, 0.75, 1.0)

        monkeypatch.setattr(retraining, "make_ensemble", make_ensemble)
        return calls

    def test_is_of_all_seeds_of_the_winner(self, stage: Stage, made: list[list[int]]) -> None:
        stage.add_baseline("fine_tuning", 0.7, 0.7)
        members = {
            each.seed
            for each in missing_retrainings(self.ENSEMBLE, contenders(stage.journal.history), stage.journal.history)
            if each.is_member
        }
        assert members == {0, 1}
        for seed in members:
            stage.journal.directory.ensemble_member(seed).mkdir(parents=True)
        stage.run(self.ENSEMBLE)
        assert stage.given == [
            (0, [(1, 0, False), (1, 1, False), ("fine_tuning", 0, False), ("fine_tuning", 1, False)])
        ]
        assert made == [[0, 1]]
        result = stage.journal.history.ensemble(1)
        assert result is not None
        assert (result.test_top1, stage.journal.history.ensemble("fine_tuning")) == (0.75, None)
        stage.run(self.ENSEMBLE)
        assert made == [[0, 1]], "once"

    def test_is_of_the_networks_that_there_are(self, stage: Stage, made: list[list[int]]) -> None:
        stage.journal.directory.ensemble_member(1).mkdir(parents=True)
        stage.run(self.ENSEMBLE)
        assert made == [[1]]

    def test_without_the_setting_there_is_none(self, stage: Stage, made: list[list[int]]) -> None:
        stage.journal.directory.ensemble_member(0).mkdir(parents=True)
        stage.run()
        assert made == []


def test_without_retrainings_of_baselines_the_probe_is_still_tested(stage: Stage) -> None:
    stage.add_baseline("linear_probe", 0.7, 0.7)
    stage.add_baseline("fine_tuning", 0.7, 0.7)
    stage.run(space_of(retrain__seeds=2, retrain__baselines=False))
    assert stage.given == [(0, [(1, 0, True), (1, 1, False), ("linear_probe", 0, False)])]


class TestRegistering:
    @pytest.fixture
    def registered(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The baseline of each model that was registered; None for a trial's."""
        calls: list[Any] = []

        def register_model(*arguments: Any) -> str:
            calls.append(arguments[-1])
            return "models:/tiny@champion"

        monkeypatch.setattr(registry, "register_model", register_model)
        return calls

    def register(self, stage: Stage) -> str | None:
        directory = stage.journal.directory
        sync = SimpleNamespace(flush=lambda timeout_s: True)
        context: Any = SimpleNamespace(journal=stage.journal, directory=directory, uri="sqlite://", sync=sync)
        images: Any = {"": LabelledImages.of(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64), ["a"])}
        return register(context, SPACE, images, stage.progress)

    def test_it_is_the_winners_whichever_that_is(self, stage: Stage, registered: list[Any]) -> None:
        stage.run()
        assert self.register(stage) == self.register(stage) == "models:/tiny@champion"
        assert registered == [None], "once"
        stage.add_baseline("linear_probe", 0.9, 0.9)
        stage.run()
        self.register(stage)
        assert registered == [None, "linear_probe"]
        history = stage.journal.history
        assert (history.model_uri("linear_probe"), history.model_uri(1)) == ("models:/tiny@champion", None)

    def test_an_ensemble_is_registered_instead_of_one_network(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seeds: list[object] = []
        monkeypatch.setattr(registry, "register_model", lambda *arguments: seeds.append(arguments[3]) or "models:/a@b")
        stage.run()
        result = EnsembleResult("weights", [0, 1], 0.75, 1.0)
        stage.journal.append(EnsembleTested(trial=1, result=result))
        assert self.register(stage) == "models:/a@b"
        assert seeds == [None]

    def test_its_card_is_among_its_files_before_it_is_registered(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cards: list[str] = []
        card = stage.journal.directory.model_card
        monkeypatch.setattr(
            registry, "register_model", lambda *arguments: cards.append(card.read_text()) or "models:/a@b"
        )
        save_model(stage.journal.directory.model)
        stage.run()
        self.register(stage)
        assert "no model card" not in stage.screen.getvalue()
        assert cards[0].startswith("# tiny\n")
        assert "**this model, the network of seed 0** | – | **0.5000** |" in cards[0]

    def test_a_card_that_cannot_be_written_is_said(self, stage: Stage, registered: list[Any]) -> None:
        stage.run()
        assert self.register(stage) == "models:/tiny@champion"
        assert "there is no model card: " in stage.screen.getvalue()

    def test_without_its_seed_there_is_no_model(self, stage: Stage, registered: list[Any]) -> None:
        assert self.register(stage) is None
        stage.journal.append(RetrainingFailed(trial=1, seed=0, reason="collapsed: the same for all 20 examples"))
        assert self.register(stage) is None
        assert registered == []
        assert "it would be that of seed 0, which collapsed: the same for all 20 examples" in stage.screen.getvalue()


def test_a_retraining_of_a_baseline_is_recorded_as_such(stage: Stage) -> None:
    stage.add_baseline("linear_probe", 0.9, 0.9)
    events: list[Any] = []
    stage.journal.listeners.append(lambda event, history: events.append(event))
    stage.run()
    assert isinstance(events[0], BaselineRetrained)
    assert [event.event for event in events] == ["baseline_retrained", "retraining_finished", "retraining_finished"]
