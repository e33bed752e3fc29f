"""A classifier that is quick to make, and photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainables.backbones import build_network
from trainables.classifier import Classifier, save_classifier, set_novelty
from trainables.config import TrialConfig
from trainables.novelty import NoveltyDetector

CLASSES = ("apple", "banana", "cherry", "date", "elderberry", "fig")
CONFIG = TrialConfig.model_validate(
    {
        "data": {"dataset": "digits", "size_px": 32, "resize_px": 32},
        "backbone": {"name": "timm/test_resnet", "pretrained": False},
        "method": {"name": "l2"},
        "training": {"eval_batch_size": 2},
    }
)


def detector(threshold: float) -> NoveltyDetector:
    """A detector whose known examples are drawn at random."""
    num_features = build_network(CONFIG.backbone, 2, 3, False).backbone.num_features
    known = np.random.default_rng(0).uniform(size=(9, num_features)).astype(np.float16)
    return NoveltyDetector(known, 1, threshold)


def save_model(folder: Path, classes: Sequence[str] = CLASSES, unlike_threshold: float | None = None) -> Path:
    network = build_network(CONFIG.backbone, len(classes), 3, False)
    with torch.no_grad():
        network.target_head.weight.mul_(20)  # so that images differ in their classes
    save_classifier(folder, network, CONFIG, classes)
    if unlike_threshold is not None:
        set_novelty(folder, detector(unlike_threshold))
    return folder


def load(folder: Path) -> Classifier:
    return Classifier.load(folder, torch.device("cpu"))


def write_photos(folder: Path, *names: str) -> list[str]:
    """Images of noise; each name has one of its own."""
    paths = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(sum(map(ord, name)))
        colour = rng.integers(0, 200, 3)
        pixels = (colour + rng.integers(0, 56, (40, 50, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    return paths
