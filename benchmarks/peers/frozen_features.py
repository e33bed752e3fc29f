"""Logistic regression on the features of the frozen network, as scikit-learn teaches it."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.loading import batches_of, default_device, plain_view
from benchmarks.peers.photographs import Clock, PhotoTask, Split, hand_in, splits_of
from trainables.backbones import TransferNetwork, build_network

MAX_FOLDS = 5
INVERSE_STRENGTHS = np.logspace(-5, 2, 15)


def main() -> None:
    """Runs the task."""
    task = from_arguments(PhotoTask)
    clock = Clock(task)
    train, test = splits_of(task.root)
    network = build_network(task.backbone_config, len(train.class_names), task.seed, keep_source_head=False)
    network = network.to(default_device()).eval()
    fewest = int(np.bincount(train.labels).min())
    chosen = LogisticRegressionCV(
        Cs=INVERSE_STRENGTHS,
        cv=StratifiedKFold(max(2, min(MAX_FOLDS, fewest)), shuffle=True, random_state=task.seed),
        max_iter=1000,
    )
    model = make_pipeline(StandardScaler(), chosen)
    model.fit(features_of(network, train, task), train.labels)
    seconds, strength = clock.seconds, float(np.ravel(chosen.C_)[0])
    predicted = model.predict(features_of(network, test, task))
    hand_in(task, seconds, f"C = {strength:.2g}", test.files, [test.class_names[label] for label in predicted])


@torch.no_grad()
def features_of(network: TransferNetwork, split: Split, task: PhotoTask) -> np.ndarray:
    """Pooled features N×D in the evaluation view."""
    batches = batches_of(split, plain_view(network, task), batch_size=128)
    parts = [network.backbone(images.to(default_device()))[1].cpu().numpy() for images, _ in batches]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
