"""Novelty detection: which inputs are unlike everything that a classifier was trained on.

An input is compared with known examples by the pooled features of the network (deep nearest neighbours: Sun et al.,
2022, https://arxiv.org/abs/2204.06507). The features of the known ones are those of the folds, each by a network that
was not trained on the example, as they are computed when a fold is scored. Networks that were fine-tuned from the same
weights have comparable features. How far they differ is part of the threshold, as each example is compared with those
of other networks, as an input is by the final one. See docs/decisions/0053.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from trainables.calibration import FALSE_ALARM_RATE, conformal_threshold
from trainables.data.images import Ints
from trainables.files import write_whole
from trainables.predictions import Features
from trainables.seeding import rng_for

MAX_KNOWN = 500
"""Number of known examples with which inputs are compared; of more, a random sample is. At 1,280 features, 1.3 MB."""
MAX_NEAREST = 10
"""Which nearest known example counts at most: not the first, so that a few near twins in other folds make no example
look familiar."""
MAX_KNOWN_OF_FOLD = 200
"""Number of examples of a fold whose features are kept."""


def sampled_rows(num_examples: int) -> Ints:
    """Positions of the examples of a fold whose features are kept, in order: all, or `MAX_KNOWN_OF_FOLD` of them."""
    order: Ints = rng_for(0, "known examples").permutation(num_examples)
    return np.sort(order[:MAX_KNOWN_OF_FOLD])


def directions(pooled_ND: Tensor) -> Tensor:
    """Pooled features N×D in float32, each scaled to length one."""
    return normalize(pooled_ND.float(), dim=1)


class Similarity(nn.Module):
    """Similarity of inputs to known examples, from −1 to 1: the cosine with the `nearest`-th nearest of them.

    `known_MD` are the features of M known examples, in any scale. Of fewer than `nearest` the farthest counts.

    >>> similarity = Similarity(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), nearest=2)
    >>> similarity(torch.tensor([[2.0, 0.0], [0.0, 3.0]])).tolist()
    [0.0, 1.0]
    """

    def __init__(self, known_MD: Tensor, nearest: int) -> None:
        super().__init__()
        self.known_MD: Tensor
        self.register_buffer("known_MD", directions(known_MD))
        self.nearest = min(nearest, len(known_MD))

    def forward(self, pooled_ND: Tensor) -> Tensor:
        """The similarity N of inputs with pooled features N×D."""
        cosines_NM = directions(pooled_ND) @ self.known_MD.T
        return cosines_NM.topk(self.nearest, dim=1).values[:, -1]


@dataclass(frozen=True, eq=False)
class NoveltyDetector:
    """Features of known examples, float16 M×D, which nearest of them counts, and the similarity below which an input is
    unlike all."""

    known: Features
    nearest: int
    threshold: float

    def similarity(self) -> Similarity:
        """The module that computes similarities."""
        return Similarity(torch.from_numpy(self.known), self.nearest)


def nearest_for(num_known: int, num_classes: int) -> int:
    """Which nearest of the known examples counts: at most half of those of a class, so that the others are of it, too.

    >>> nearest_for(500, num_classes=10), nearest_for(500, num_classes=100), nearest_for(30, num_classes=100)
    (10, 2, 1)
    """
    return max(1, min(MAX_NEAREST, num_known // (2 * num_classes)))


def fitted_detector(
    folds: Sequence[Features],
    num_classes: int,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    max_known: int = MAX_KNOWN,
) -> NoveltyDetector | None:
    """Fits a detector to the features of the validation parts of several folds, each by the fold's own network.

    Each example is compared with those of the other folds. The threshold is the conformal quantile of these
    similarities, so that about `false_alarm_rate` of new examples of the same kind are below it. Returns None with
    fewer than two folds, and with fewer examples than a quantile takes.
    """
    kept = _sampled(folds, max_known)
    if len(kept) < 2:
        return None
    known = np.concatenate(kept)
    nearest = nearest_for(len(known), num_classes)
    similarities = []
    for number, own in enumerate(kept):
        others = np.concatenate([*kept[:number], *kept[number + 1 :]])
        of_fewer = max(1, round(nearest * len(others) / len(known)))  # as near among fewer
        similarities.append(Similarity(torch.from_numpy(others), of_fewer)(torch.from_numpy(own)))
    threshold = conformal_threshold(torch.cat(similarities).double().numpy(), false_alarm_rate)
    return None if threshold is None else NoveltyDetector(known, nearest, threshold)


def _sampled(folds: Sequence[Features], max_known: int) -> list[Features]:
    """The folds that have examples, with at most `max_known` of them in all."""
    fold_of = np.repeat(np.arange(len(folds)), [len(features) for features in folds])
    chosen = np.sort(rng_for(0, "known examples of all folds").permutation(len(fold_of))[:max_known])
    parts = [np.concatenate(folds)[chosen[fold_of[chosen] == k]] for k in range(len(folds))]
    return [part for part in parts if len(part)]


def write_known(file: Path, detector: NoveltyDetector) -> None:
    """Writes the known examples of a detector to `file`. Raises OSError."""
    content = io.BytesIO()
    np.savez(content, known=detector.known, nearest=np.int64(detector.nearest))
    write_whole(file, content.getvalue())


def read_known(file: Path, threshold: float) -> NoveltyDetector:
    """Reads a detector with the known examples that `write_known` wrote. Raises OSError, and ValueError for anything
    else."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            known, nearest = arrays["known"], int(arrays["nearest"])
    except (KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file.name} with features of known examples, got none") from error
    if known.dtype != np.float16 or known.ndim != 2:
        raise ValueError(f"{file.name} with float16 M×D, got {known.dtype} of {known.ndim} dimensions")
    return NoveltyDetector(known, nearest, threshold)
