"""The story of a search with Ray and MLflow left out: what is chosen, by what, and when the test split is met."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.tiny import fold, space_of, write_yaml
from trainables.data.images import LabelledImages
from trainables.results import RetrainResult
from tuner import search
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.tasks import GpuOutOfMemory
from tuner.execution.run_context import experiment_directory, resuming_command
from tuner.experiment.checks import load_images
from tuner.experiment.search_experiment import SearchExperiment, load_experiment
from tuner.experiment.settings import ResourceSettings
from tuner.record.directory import new_run
from tuner.record.journal import Journal
from tuner.record.selection import best_trial
from tuner.resources.share import Capacity, Share, share_of
from tuner.scheduling.scheduler import TrialScheduler
from tuner.search import parser, resolve_space, search_and_retrain

SHARE = Share(1, 0, 1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Trials whose score is alpha, and retrainings that say what they were given. `poison` is what a test score is."""
    state: dict[str, Any] = {"poison": 0.5, "searching": False, "retrained": [], "test_loads": 0}

    def run_trials(scheduler: TrialScheduler, images: Any, share: Share, directory: Path) -> None:
        state["searching"] = True
        while (assignment := scheduler.next_assignment()) is not None:
            for k in range(1, assignment.num_folds + 1):
                if not scheduler.fold_finished(assignment.number, fold(k, assignment.config.method.alpha)):
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

    monkeypatch.setattr(search, "run_trials", run_trials)
    monkeypatch.setattr(search, "load_test", load_test)
    monkeypatch.setattr(search, "retrain", retrain)
    return state


def run(space: SearchExperiment, directory: Path, share: Share = SHARE) -> Journal:
    journal = Journal(directory)
    progress = SearchProgress(Console(file=io.StringIO()), space, space.search.trials, 1)
    search_and_retrain(space, load_images(space), share, journal, progress)
    return journal


def test_what_validation_has_chosen_is_retrained_with_every_seed(tmp_path: Path, fake: dict[str, Any]) -> None:
    journal = run(space_of(), tmp_path)
    best = max(journal.history.trials.values(), key=lambda trial: trial.params["alpha"])
    assert fake["retrained"] == [(best.params["alpha"], [0, 1, 2])]
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

    monkeypatch.setattr(search, "retrain", retrain)
    share = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").dividing_cards_by(0.25)
    journal = run(space_of(), tmp_path, share)
    assert given == [(0.25, [0, 1, 2]), (0.5, [1, 2]), (1, [1, 2])]
    assert len(journal.history.retrained) == 3


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

    monkeypatch.setattr(search, "load_test", refuse)
    monkeypatch.setattr("trainables.data.loading.load_test", refuse)
    run(space_of(retrain__seeds=0), tmp_path / "none")
    with pytest.raises(AssertionError, match="the test split was loaded"):
        run(space_of(retrain__seeds=1), tmp_path / "one")


def test_what_is_retrained_is_not_repeated_unless_there_is_another_best(tmp_path: Path, fake: dict[str, Any]) -> None:
    two = run(space_of(search__trials=2), tmp_path)
    run(space_of(search__trials=2), tmp_path)
    assert len(fake["retrained"]) == fake["test_loads"] == 1
    two.append("trial_started", trial=2, params={"gamma_fe": 0.02, "alpha": 1.0})
    for k in (1, 2):
        two.append("fold_finished", trial=2, result=fold(k, 1.0))
    two.append("trial_finished", trial=2, state="complete", reason="")
    three = run(space_of(search__trials=3), tmp_path)
    assert fake["retrained"][1:] == [(1.0, [0, 1, 2])]
    assert list(three.history.retrainings(2)) == [0, 1, 2]


def test_an_earlier_search_is_taken_up_and_said(tmp_path: Path, fake: dict[str, Any]) -> None:
    settings = {"tracking__directory": str(tmp_path), "retrain__seeds": 0}
    earlier = space_of(name="earlier", **settings)
    directory = new_run(earlier)
    with contextlib.closing(Journal(directory)) as journal:
        journal.append("search_started", name="earlier", run=directory.name, **earlier.described())
    tried = [trial.params for trial in run(earlier, directory).history.trials.values()]
    journal = run(space_of(name="later", search__warm_start="earlier", **settings), tmp_path / "later" / "now")
    assert journal.history.warm_started is not None
    assert [trial["params"] for trial in journal.history.warm_started["trials"]] == tried
    assert list(journal.history.trials) == list(range(6))


class TestCommandLine:
    def test_warm_start_is_repeatable_and_overrides_the_file(self, tmp_path: Path) -> None:
        file = write_yaml(tmp_path, search__warm_start="one")
        arguments = ["--space", str(file), "--warm-start", "two", "--warm-start", "three/now"]
        assert resolve_space(parser().parse_args(arguments)).search.warm_start == ("two", "three/now")
        assert resolve_space(parser().parse_args(arguments[:2])).search.warm_start == ("one",)

    def test_flags_override_the_file(self, tmp_path: Path) -> None:
        file = write_yaml(tmp_path)
        arguments = ["--space", str(file), "--trials", "9", "--name", "other", "--tracking-uri", "sqlite:///x.db"]
        space = resolve_space(parser().parse_args([*arguments, "--set", "training.num_steps=7"]))
        assert (space.name, space.search.trials, space.tracking.uri) == ("other", 9, "sqlite:///x.db")
        assert space.fixed["training"]["num_steps"] == 7

    def test_smoke_shrinks_what_the_other_flags_made(self, tmp_path: Path) -> None:
        arguments = ["--space", str(write_yaml(tmp_path)), "--smoke", "--name", "other", "--trials", "9"]
        space = resolve_space(parser().parse_args(arguments))
        assert (space.name, space.search.trials) == ("other-smoke", 2)

    def test_how_to_go_on_reads_back_to_the_same_experiment(self, tmp_path: Path) -> None:
        space = space_of(tracking__directory=str(tmp_path / "my runs"), training__num_steps=7)
        with experiment_directory(space, resume=False) as directory:
            (directory / "journal.jsonl").touch()
        command = resuming_command("search", directory, "10.0.0.1:6379", "sqlite:///x.db")
        assert command.endswith(f"--space '{directory}/space.yaml' --address 10.0.0.1:6379 --resume")
        recorded = load_experiment(directory / "space.yaml")
        with experiment_directory(recorded, resume=True) as again:
            assert again == directory

    def test_a_password_is_not_repeated_but_asked_for(self) -> None:
        command = resuming_command("search", Path("run"), None, "https://me:secret@host")
        assert "--tracking-uri <with its credentials>" in command
        assert "secret" not in command


class TestDirectory:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_a_run_that_never_began_leaves_nothing(self, tmp_path: Path, error: type[BaseException]) -> None:
        space = space_of(tracking__directory=str(tmp_path))
        with pytest.raises(error), experiment_directory(space, resume=False):
            raise error
        assert list((tmp_path / "tiny").iterdir()) == []

    def test_one_that_has_begun_is_kept(self, tmp_path: Path) -> None:
        space = space_of(tracking__directory=str(tmp_path))
        directory = new_run(space)
        (directory / "journal.jsonl").touch()
        with pytest.raises(KeyboardInterrupt), experiment_directory(space, resume=True):
            raise KeyboardInterrupt
        assert directory.exists()
