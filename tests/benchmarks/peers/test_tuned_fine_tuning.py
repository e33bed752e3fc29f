from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.peers.loading import mean_and_std_of, plain_view
from benchmarks.peers.photographs import PhotoTask, splits_of
from benchmarks.peers.tuned_fine_tuning import UNTUNED, parted, predicted, trained
from tests.benchmarks.photographs import written_pictures
from trainables.backbones import build_network


def test_a_fifth_validates_class_by_class(tmp_path: Path) -> None:
    photographs, _ = splits_of(written_pictures(tmp_path / "photos", train=10))
    training, validation = parted(photographs, seed=0)
    assert np.bincount(training.labels).tolist() == [8, 8]
    assert np.bincount(validation.labels).tolist() == [2, 2]
    assert set(training.files) | set(validation.files) == set(photographs.files)
    assert parted(photographs, seed=1) != (training, validation)


def test_a_class_of_one_image_is_no_obstacle(tmp_path: Path) -> None:
    photographs, _ = splits_of(written_pictures(tmp_path / "photos"))
    training, validation = parted(replace(photographs, files=photographs.files[:7], labels=photographs.labels[:7]), 0)
    assert (len(training.files), len(validation.files)) == (5, 2)


def test_an_epoch_of_plain_fine_tuning(tmp_path: Path) -> None:
    root = written_pictures(tmp_path / "photos")
    task = PhotoTask(root, tmp_path / "out", tmp_path, 1.0, 0, 0.0, size_px=32)
    train, test = splits_of(root)
    first, last = trained(task, train, UNTUNED | {"batch_size": 4}, epochs=2)
    assert first is last
    assert predicted(last, test, task).shape == (6,)


def test_inputs_are_normalised_as_the_network_expects(tmp_path: Path) -> None:
    task = PhotoTask(written_pictures(tmp_path / "photos"), tmp_path, tmp_path, 1.0, 0, 0.0, size_px=32)
    network = build_network(task.backbone_config.model_copy(update={"pretrained": False}), 2, 0, False)
    assert mean_and_std_of(network) == ([0.5] * 3, [0.5] * 3)
    seen = plain_view(network, task)(Image.new("RGB", (60, 50), (255, 0, 255)))
    torch.testing.assert_close(seen[:, 0, 0], torch.tensor([1.0, -1.0, 1.0]))
