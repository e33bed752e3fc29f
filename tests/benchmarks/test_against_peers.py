from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.against_peers import ahead, reached_s, written_digits
from benchmarks.peers.task import FIRST_POINT, Task
from benchmarks.peers.usual import smile_loss
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods import smile
from trainables.methods.mixing import Mix
from trainables.methods.smile import Smile, SmileConfig
from tuner.experiment.search_experiment import parse_experiment

PARTNER = torch.tensor([2, 0, 3, 1, 4, 5])


def test_the_goal_is_what_both_reach() -> None:
    ours = [(10.0, 0.80), (20.0, 0.90), (30.0, 0.85)]
    theirs = [(40.0, 0.70), (60.0, 0.85), (90.0, 0.86)]
    assert ahead(ours, theirs) == 90.0 / 20.0
    assert ahead(theirs, ours) == 20.0 / 90.0


def test_a_score_that_is_equal_up_to_rounding_is_reached() -> None:
    assert reached_s([(1.0, 0.1 + 0.2)], 0.3) == reached_s([(1.0, 0.3)], 0.1 + 0.2) == 1.0


def test_the_task_is_the_same_experiment(tmp_path: Path) -> None:
    task = Task(tmp_path, steps=7, trials=5)
    space = parse_experiment(task.experiment(tmp_path), "task")
    (point,) = space.search.first_points
    config = space.trial_config(point)
    assert {path.rpartition(".")[2]: value for path, value in point.items()} == FIRST_POINT
    assert (config.training.num_steps, config.data.stored_px, space.search.trials) == (7, task.stored_px, 5)
    assert (config.training.batch_size, config.training.schedule, config.seed) == (task.batch_size, "step", task.seed)


def test_the_digits_are_written_class_by_class(tmp_path: Path) -> None:
    root = written_digits(tmp_path)
    assert sorted(folder.name for folder in (root / "train").iterdir()) == list("0123456789")
    assert len(list((root / "train").rglob("*.png"))) == 150


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_peers_minimise_what_this_project_does(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, student = tiny_batch(), tiny_network().train()
    config = SmileConfig(gamma_fe=0.7, gamma_fc=0.3, teacher_precision="fp32")
    method = Smile(config, student, tiny_context())
    assert method.teacher is not None
    monkeypatch.setattr(smile, "draw_mix", lambda *_: Mix(weight, PARTNER))
    ours = sum(method.loss(batch).values())
    monkeypatch.setattr(np.random, "beta", lambda *_: weight)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: PARTNER)
    params = {"gamma_fe": 0.7, "gamma_fc": 0.3, "alpha": 0.2}
    theirs = smile_loss(student, method.teacher, student.embed(batch.inputs), batch.labels, params)
    torch.testing.assert_close(theirs, ours)
