from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tuner.tiny import space_of
from trainables.config import TrialConfig
from trainables.data.loading import load_train
from trainables.errors import Diverged
from trainables.training.loop import Fit
from tuner.experiment import timing
from tuner.experiment.timing import TIMED_STEPS, StepTimes, time_steps


def config_of(**changes: Any) -> TrialConfig:
    space = space_of(method={"name": "l2"}, backbone__pretrained=False, **changes)
    return next(space.boundary_configs())


def test_the_parts_of_a_training_are_timed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that ticks once a second at every reading: after set-up, the first step, the others, the scores."""
    ticks = count()
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    config = config_of()
    times = time_steps(config, load_train(config.data), num_folds=2)
    assert times == StepTimes(setup_s=1 - 1 / TIMED_STEPS, step_s=1 / TIMED_STEPS, example_s=1 / 15, timed_s=3)


@pytest.mark.parametrize(
    "length", [{"training__num_steps": 1}, {"training__num_steps": None, "training__num_epochs": 9}]
)
def test_as_many_steps_are_trained_whatever_the_length_is(monkeypatch: pytest.MonkeyPatch, length: Any) -> None:
    steps: list[int] = []

    run = Fit.run

    def recorded(fit: Fit, until: int | None = None, watch: Any = None) -> None:
        run(fit, until, watch)
        steps.append(fit.step)

    monkeypatch.setattr(Fit, "run", recorded)
    config = config_of(**length)
    state = torch.get_rng_state()
    times = time_steps(config, load_train(config.data), num_folds=2)
    assert steps == [1, 1 + TIMED_STEPS]
    assert torch.equal(state, torch.get_rng_state())
    assert min(times.step_s, times.example_s) > 0


def test_a_training_that_diverges_has_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any) -> None:
        raise Diverged(1, "target_label")

    monkeypatch.setattr(Fit, "run", diverge)
    config = config_of()
    assert time_steps(config, load_train(config.data), num_folds=2).example_s > 0


def test_the_mean_is_of_each_part() -> None:
    assert StepTimes.mean([StepTimes(1, 2, 3), StepTimes(3, 4, 7)]) == StepTimes(2, 3, 5)
