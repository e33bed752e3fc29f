from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tuner.tiny import space_of
from trainables import trial
from trainables.classifier import WEIGHTS, Classifier
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.predictions import Predictions
from trainables.probe import Probe
from trainables.results import RetrainFailed
from trainables.training.checkpoint import Checkpoints
from trainables.trial import reseeded
from tuner.cluster import retraining as retrain
from tuner.cluster.retraining import Retraining, make_ensemble, put_folder
from tuner.record.directory import RunDirectory
from tuner.record.predictions import PredictionFiles
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


CONFIG = space_of().trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
IMAGES = LabelledImages.of(np.zeros((2, 8, 8, 3), dtype=np.uint8), np.arange(2), ("a", "b"))


def once(each: Retraining, folder: Path) -> tuple[Any, dict[str, bytes]]:
    """The result of a retraining, and the files of its model."""
    _, result, files, _ = retrain._retrain_once(each, IMAGES, IMAGES, {}, SHARE, folder, None)
    return result, files


def test_only_the_network_of_one_becomes_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit = SimpleNamespace(step=3, history=SimpleNamespace(steps=[], terms={}))
    monkeypatch.setattr(trial, "train_full", lambda *_: (None, fit))
    monkeypatch.setattr(trial, "facts_of", lambda fit: None)
    monkeypatch.setattr(retrain, "_classifier_files", lambda network, config, names: {"weights": b""})
    for poison in (0, 1):  # whichever has the better test score
        test = Predictions(np.arange(1), np.array([poison]), np.array([[0.25, 0.75]], dtype=np.float32))
        monkeypatch.setattr(trial, "predictions_on", lambda *_, test=test: test)
        kept = [once(Retraining(0, CONFIG, seed, makes_model=seed == 0), tmp_path)[1] for seed in range(3)]
        assert kept == [{"weights": b""}, {}, {}]


def test_the_networks_of_an_ensemble_become_one_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two networks of a real retraining, written to the run's directory, averaged and scored in a task."""
    frozen = {"head_init": "probe", "batch_norm": "frozen", "num_steps": 1, "batch_size": 2, "learning_rate": 1e-6}
    config = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update=frozen)})
    pixels = np.random.default_rng(0).integers(0, 256, (4, 37, 37, 3), dtype=np.uint8)
    images = LabelledImages.of(pixels, np.array([0, 1, 0, 1]), ("a", "b"))
    monkeypatch.setattr(retrain, "load_test", lambda data: images)
    monkeypatch.setattr(retrain, "put_shared", lambda value: value)
    monkeypatch.setattr(retrain, "as_completed", lambda task, jobs, share, **_: (task(*job) for job in jobs))
    directory = RunDirectory(tmp_path)
    jobs = [Retraining(4, config, seed, is_member=True) for seed in range(2)]
    list(retrain.retrain(jobs, {source_key(config.data): images}, {}, SHARE, directory))
    assert not directory.model.exists()
    tensors = [torch.load(directory.ensemble_member(seed) / WEIGHTS, weights_only=True) for seed in range(2)]
    assert list(PredictionFiles(directory).test_seeds(4)) == [0, 1]
    result = make_ensemble(4, config, [0, 1], {source_key(config.data): images}, SHARE, directory)
    assert (result.mean_of, result.seeds) == ("weights", [0, 1])
    mean = torch.load(directory.model / WEIGHTS, weights_only=True)
    name = "target_head.weight"
    torch.testing.assert_close(mean[name], (tensors[0][name] + tensors[1][name]) / 2)
    accuracy = (Classifier.load(directory.model).predict_proba(pixels).argmax(axis=1) == images.labels).mean()
    assert result.test_top1 == result.metrics["top1"] == pytest.approx(accuracy)
    kept = PredictionFiles(directory).test(4, None)
    assert kept is not None
    np.testing.assert_allclose(kept.probabilities, Classifier.load(directory.model).predict_proba(pixels), rtol=1e-4)
    assert not directory.ensemble_members.exists()


def test_one_that_diverges_breaks_off_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def diverge(*_: object) -> None:
        raise Diverged(7, "the gradient")

    monkeypatch.setattr(trial, "train_full", diverge)
    ended = once(Retraining(0, CONFIG, 0, makes_model=True), tmp_path)
    assert ended == (RetrainFailed(0, "diverged: the gradient is not finite at step 7"), {})


def test_probes_of_the_search_are_known_to_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known: list[object] = []
    monkeypatch.setattr(retrain.PROBES, "add", known.append)
    monkeypatch.setattr(retrain, "train_and_test", lambda *_: RetrainFailed(0, "diverged"))
    probes = {"key": Probe(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 1.0)}
    retrain._retrain_once(Retraining("linear_probe", CONFIG, 0), IMAGES, IMAGES, probes, SHARE, tmp_path, None)
    assert known == [probes]


def test_each_is_kept_while_it_trains_and_until_it_is_taken_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def train_and_test(
        config: object, seed: int, train: object, test: object, checkpoints: Checkpoints | None, share: float
    ) -> RetrainFailed:
        assert checkpoints is not None
        assert share == (0.5 if seed else 1.0)
        assert checkpoints.period_s == 30
        checkpoints.save("me", {})
        checkpoints.wait()
        return RetrainFailed(seed, "diverged")

    loaded: list[object] = []
    monkeypatch.setattr(retrain, "load_test", lambda data: loaded.append(data) or IMAGES)
    monkeypatch.setattr(retrain, "train_and_test", train_and_test)
    monkeypatch.setattr(retrain, "put_shared", lambda value: value)
    monkeypatch.setattr(retrain, "as_completed", lambda task, jobs, share, **_: (task(*job) for job in jobs))
    jobs = [Retraining(4, CONFIG, 0)]
    jobs += [Retraining(4, CONFIG, 1, share=0.5), Retraining("fine_tuning", CONFIG, 1, share=0.5)]
    images = {source_key(CONFIG.data): IMAGES}
    folder, seen = tmp_path / "checkpoints", []
    for each, broken_off in retrain.retrain(jobs, images, {}, SHARE, RunDirectory(tmp_path), 30):
        assert broken_off.seed == each.seed
        seen += [path.name for path in folder.iterdir()]
    assert seen == ["retrain-0.pt", "retrain-1.pt", "retrain-fine_tuning-1.pt"]
    assert not folder.exists()
    assert loaded == [CONFIG.data], "the test split is loaded once"
