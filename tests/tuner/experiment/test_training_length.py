"""Shorter trainings: fixed lengths beside and within alternatives, and lengths that are searched."""

from __future__ import annotations

from tests.tuner.tiny import space_of
from tuner.experiment.training_length import with_training_length


def test_every_fixed_length_is_shortened_also_within_alternatives() -> None:
    alternatives = [{"label": "short", "num_steps": 30}, {"label": "long", "num_steps": 81}]
    space = with_training_length(space_of(training={"batch_size": 4, "choice": alternatives}), 0.5)
    steps = {point["training"]: space.trial_config(point).training.num_steps for point in space.boundary_points()}
    assert steps == {"short": 15, "long": 40}


def test_epochs_are_shortened_too() -> None:
    space = with_training_length(space_of(training={"batch_size": 4, "num_epochs": 3}), 0.5)
    lengths = {(each.training.num_steps, each.training.num_epochs) for each in space.boundary_configs()}
    assert lengths == {(None, 1.5)}


def test_a_length_that_is_searched_stays() -> None:
    space = space_of(training__num_steps={"choice": [50, 100]})
    assert with_training_length(space, 0.5) is space
