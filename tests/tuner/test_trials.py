"""The worker's side without Ray: whatever a trial does, the actor is as good as new for the next."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.tune.search import Searcher

from tests.tuner.tiny import space_of
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.trial import FoldResult
from tuner import trials
from tuner.cluster import Share
from tuner.conductor import Assignment, Conductor
from tuner.journal import Journal
from tuner.trials import ConductedSearcher, ConductorCallback, FoldTrainable, one_line

SHARE = Share(1, 0, 1)


def assignment(number: int = 0, first_fold: int = 1, **params: Any) -> dict[str, Any]:
    config = space_of().trial_config({"gamma_fe": 0.02, "alpha": 0.5} | params)
    return {"assignment": Assignment(number, config, 2, first_fold)}


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Fold → what its training raises; every other gives alpha as its score."""
    raises: dict[int, Any] = {}

    def validate(config: Any, images: Any, number: int, fold: Any, device: Any) -> FoldResult:
        if number in raises:
            raise raises[number]
        assert len(fold.train) + len(fold.validation) == len(images)
        return FoldResult(number, config.method.alpha, 0.0)

    monkeypatch.setattr(trials, "validate_fold", validate)
    return raises


@pytest.fixture
def actor(behaviour: dict[int, Any]) -> FoldTrainable:
    pixels = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    images = LabelledImages.of(pixels, np.arange(6) % 2, ("a", "b"))
    key = source_key(assignment()["assignment"].config.data)
    trainable = object.__new__(FoldTrainable)  # `Trainable.__init__` looks for Ray
    trainable.setup(assignment(), images={key: images}, share=SHARE)
    return trainable


def test_a_step_is_a_fold_and_the_last_ends_the_trial(actor: FoldTrainable) -> None:
    first, second = actor.step(), actor.step()
    assert (first["result"]["fold"], first["done"]) == (1, False)
    assert (second["result"]["fold"], second["done"]) == (2, True)
    assert first["result"]["val_top1"] == 0.5


def test_a_trial_that_goes_on_starts_at_its_first_unfinished_fold(actor: FoldTrainable) -> None:
    assert actor.reset_config(assignment(first_fold=2))
    only = actor.step()
    assert (only["result"]["fold"], only["done"]) == (2, True)


def test_divergence_names_fold_and_step(actor: FoldTrainable, behaviour: dict[int, Any]) -> None:
    behaviour[2] = Diverged(7, "target_label")
    actor.step()
    assert actor.step() == {"failed": "fold 2 diverged: target_label is not finite at step 7", "done": True}


@pytest.mark.parametrize("error", [ValueError("bad\nsecond line"), MemoryError(), KeyError("x")])
def test_whatever_a_trial_raises_the_next_is_unaffected(
    actor: FoldTrainable, behaviour: dict[int, Any], error: Exception
) -> None:
    behaviour[1] = error
    ended = actor.step()
    assert ended["done"]
    assert ended["failed"] == f"fold 1: {one_line(error)}"
    assert "Traceback" in ended["trace"]
    behaviour.clear()
    assert actor.reset_config(assignment(1, alpha=0.9))
    assert [actor.step()["result"]["val_top1"] for _ in range(2)] == [0.9, 0.9]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("assert", 710)])
def test_what_may_have_broken_the_process_ends_it(
    actor: FoldTrainable, behaviour: dict[int, Any], error: Exception
) -> None:
    behaviour[1] = error
    with pytest.raises(type(error)):
        actor.step()


def test_one_line() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(MemoryError()) == "MemoryError"


class FakeTrial:
    """What Ray Tune hands to a callback."""

    def __init__(self, config: dict[str, Any], error: Exception | None = None) -> None:
        self.config = config
        self._error = error

    def get_error(self) -> Exception | None:
        return self._error


class TestTowardsTheConductor:
    @pytest.fixture
    def conductor(self, tmp_path: Path) -> Conductor:
        return Conductor(space_of(search__trials=1), Journal(tmp_path))

    def test_nothing_to_do_for_now_is_not_the_end(self, conductor: Conductor) -> None:
        searcher = ConductedSearcher(conductor)
        config = searcher.suggest("x")
        assert isinstance(config, dict)
        assert searcher.suggest("y") is None
        conductor.trial_failed(0, "diverged")
        assert searcher.suggest("y") == Searcher.FINISHED

    def test_results_failures_and_deaths_arrive(self, conductor: Conductor) -> None:
        callback, searcher = ConductorCallback(conductor), ConductedSearcher(conductor)
        trial: Any = FakeTrial(searcher.suggest("x"), RuntimeError("SIGKILL"))  # type: ignore[arg-type]
        callback.on_trial_result(1, [], trial, {"result": FoldResult(1, 0.5, 0.0).as_dict()})
        assert conductor.journal.history.trials[0].fold_scores == [0.5]
        callback.on_trial_error(1, [], trial)
        again = searcher.suggest("y")
        assert isinstance(again, dict)
        assert (again["assignment"].number, again["assignment"].first_fold) == (0, 2)
        callback.on_trial_result(2, [], trial, {"failed": "fold 2 diverged"})
        assert conductor.journal.history.trials[0].state == "failed"

    def test_ray_tunes_snapshots_hold_nothing_of_it(self, conductor: Conductor) -> None:
        assert type(pickle.loads(pickle.dumps(ConductedSearcher(conductor)))) is Searcher
        assert b"Conductor" not in pickle.dumps(ConductorCallback(conductor))
