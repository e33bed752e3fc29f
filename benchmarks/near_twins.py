"""Near twins of a folder of photographs, and what validation says where folds are made of them.

    python -m benchmarks.near_twins --root grocery

Prints, for each cosine similarity: the share of validation images with a near twin in training over three folds; the
shares of training images with such a neighbour of their own class and of another, and of test images with one in
training; and the validation score of logistic regression where images that are connected by near twins are groups,
beside the test score.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from trainables.backbones import build_network
from trainables.config import TrialConfig
from trainables.data.examples import as_inputs
from trainables.data.folds import stratified_folds
from trainables.data.images import Ints
from trainables.data.loading import load_test, load_train
from trainables.near_twins import count_near_twins
from trainables.probe import Floats, pooled_features

NUM_FOLDS = 3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--backbone", default="package/efficientnet_lite0")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.7, 0.75, 0.8, 0.85])
    arguments = parser.parse_args()
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "imagefolder", "root": arguments.root, "size_px": arguments.size_px},
            "backbone": {"name": arguments.backbone},
            "method": {"name": "l2"},
        }
    )
    splits = load_train(config.data), load_test(config.data)
    network = build_network(config.backbone, splits[0].num_classes, 0, False)
    train, test = (
        pooled_features(network, as_inputs(split, config.data, None), config, torch.device("cpu")) for split in splits
    )
    labels, test_labels = (split.labels for split in splits)
    within, across = _unit(train, train) @ _unit(train, train).T, _unit(test, train) @ _unit(train, train).T
    np.fill_diagonal(within, -1)
    same = labels[:, None] == labels[None]
    print(
        f"validation {_validated(train, labels, None):.3f}, test {_fitted(train, labels).score(test, test_labels):.3f}"
    )
    for threshold in arguments.thresholds:
        twins = within >= threshold
        _, groups = connected_components(twins & same)
        counted = count_near_twins(train, stratified_folds(labels, NUM_FOLDS, 0), threshold)
        print(
            f"{threshold}: {counted.num_with_twin / counted.num_validated:.3f} of validation images; "
            f"own class {(twins & same).any(axis=1).mean():.3f}, another {(twins & ~same).any(axis=1).mean():.3f}, "
            f"test {(across >= threshold).any(axis=1).mean():.3f}; "
            f"validation in groups {_validated(train, labels, groups.astype(np.int64)):.3f}"
        )


def _unit(features_ND: Floats, train_ND: Floats) -> Floats:
    centred_ND = features_ND - train_ND.mean(axis=0)
    unit: Floats = centred_ND / np.linalg.norm(centred_ND, axis=1, keepdims=True)
    return unit


def _fitted(features_ND: Floats, labels_N: Ints) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=200, tol=1e-3))
    return model.fit(features_ND, labels_N)


def _validated(features_ND: Floats, labels_N: Ints, groups_N: Ints | None) -> float:
    folds = stratified_folds(labels_N, NUM_FOLDS, 0, 0, groups_N)
    scores = [
        _fitted(features_ND[fold.train], labels_N[fold.train]).score(
            features_ND[fold.validation], labels_N[fold.validation]
        )
        for fold in folds
    ]
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
