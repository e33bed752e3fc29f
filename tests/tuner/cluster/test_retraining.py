from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tuner.tiny import space_of
from trainables import trial
from trainables.data.images import LabelledImages
from trainables.errors import Diverged
from trainables.results import RetrainFailed
from trainables.training.checkpoint import Checkpoints
from trainables.trial import MODEL_SEED, reseeded
from tuner.cluster import retraining as retrain
from tuner.cluster.retraining import put_folder
from tuner.record.directory import RunDirectory
from tuner.resources.share import Share

SHARE = Share(1, 0, 1)


def test_a_folder_is_put_in_place_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    put_folder(folder, {"a": b"1", "b": b"2"})
    put_folder(folder, {"a": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"3"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_write_that_breaks_off_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    put_folder(folder, {"a": b"old"})
    with pytest.raises(TypeError):
        put_folder(folder, {"a": b"new", "b": None})  # type: ignore[dict-item]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"old"}
    put_folder(folder, {"a": b"new"})  # and is no hindrance
    assert (folder / "a").read_bytes() == b"new"


def test_every_seed_draws_anew() -> None:
    config = space_of(search__seed=3).trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
    seeds = [reseeded(config, seed).seed for seed in range(4)]
    assert len({config.seed, *seeds}) == 5
    assert seeds == [reseeded(config, seed).seed for seed in range(4)]
    assert reseeded(config, 0).model_copy(update={"seed": 3}) == config


def test_the_model_is_that_of_a_seed_fixed_beforehand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert MODEL_SEED == 0
    fit = SimpleNamespace(history=SimpleNamespace(steps=[], terms={}))
    monkeypatch.setattr(trial, "train_full", lambda *_: (None, fit))
    monkeypatch.setattr(retrain, "_classifier_files", lambda network, config, names: {"weights": b""})
    config = space_of().trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
    images = LabelledImages.of(np.zeros((2, 8, 8, 3), dtype=np.uint8), np.arange(2), ("a", "b"))
    for poison in (0.0, 1.0):  # whichever has the better test score
        monkeypatch.setattr(trial, "accuracy_on", lambda *_, poison=poison: poison)
        kept = [retrain._retrain_once(config, seed, images, images, SHARE, tmp_path, None)[1] for seed in range(3)]
        assert kept == [{"weights": b""}, {}, {}]


def test_one_that_diverges_breaks_off_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def diverge(*_: object) -> None:
        raise Diverged(7, "the gradient")

    monkeypatch.setattr(trial, "train_full", diverge)
    config = space_of().trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
    images = LabelledImages.of(np.zeros((2, 8, 8, 3), dtype=np.uint8), np.arange(2), ("a", "b"))
    ended = retrain._retrain_once(config, 0, images, images, SHARE, tmp_path, None)
    assert ended == (RetrainFailed(0, "diverged: the gradient is not finite at step 7"), {})


def test_each_is_kept_while_it_trains_and_until_it_is_taken_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def train_and_test(
        config: object, seed: int, train: object, test: object, checkpoints: Checkpoints | None
    ) -> RetrainFailed:
        assert checkpoints is not None
        assert checkpoints.period_s == 30
        checkpoints.save("me", {})
        return RetrainFailed(seed, "diverged")

    monkeypatch.setattr(retrain, "train_and_test", train_and_test)
    monkeypatch.setattr(retrain, "put_shared", lambda value: value)
    monkeypatch.setattr(retrain, "as_completed", lambda task, jobs, share: (task(*job) for job in jobs))
    config = space_of().trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
    images = LabelledImages.of(np.zeros((2, 8, 8, 3), dtype=np.uint8), np.arange(2), ("a", "b"))
    folder = tmp_path / "checkpoints"
    for broken_off in retrain.retrain(config, [0, 1], images, images, SHARE, RunDirectory(tmp_path), 30):
        assert [path.name for path in folder.iterdir()] == [f"retrain-{broken_off.seed}.pt"]
    assert not folder.exists()
