"""What scores for "unlike anything seen" find in photographs of other things:

    python -m benchmarks.unlike --known FOLDER --strange FOLDER

A classifier is fine-tuned on the training split of `--known` (layout of `imagefolder`), and each score is calibrated on
its out-of-fold predictions, so that 5 % of those are below the threshold. Printed are the share of test images of the
known classes that are called unlike (false alarms), that of the images of `--strange` (found), and the area under the
ROC curve. The score is chosen by validation: out-of-fold examples, and the training images of `--strange`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.calibration import FALSE_ALARM_RATE, conformal_threshold
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import fold_at
from trainables.data.images import Ints
from trainables.data.loading import load_test, load_train
from trainables.novelty import MAX_NEAREST, Similarity, sampled_rows
from trainables.training.evaluation import evaluated
from trainables.trial import FoldTraining, default_device, train_full

Floats = NDArray[np.floating[Any]]
Scorer = Callable[[Floats], Floats]
"""Function from features N×D to scores N, where low means unlike."""
ScorerOf = Callable[[Floats, Ints], Scorer]
"""Function that makes a score of the features M×D and labels M of known examples."""
NUM_FOLDS = 3
LEARNING_RATE = 0.0005
"""With 0.002 the loss explodes on some folders: its network has lost what it knew, and everything is unlike."""
DEVICE = default_device()


def config_of(root: Path, num_steps: int, size_px: int, learning_rate: float = LEARNING_RATE) -> TrialConfig:
    """Plain fine-tuning from a probe, with frozen BatchNorm."""
    training = {
        "head_init": "probe",
        "batch_norm": "frozen",
        "num_steps": num_steps,
        "batch_size": 24,
        "learning_rate": learning_rate,
    }
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "imagefolder", "root": str(root), "size_px": size_px},
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": {"name": "l2"},
            "training": training,
        }
    )


@dataclass(frozen=True, eq=False)
class Seen:
    """Examples as a network sees them: features N×D, labels N, its largest class probability N, and whether that is of
    the label N."""

    features: Floats
    labels: Ints
    surest: Floats
    is_right: NDArray[np.bool_]


def seen_by(network: TransferNetwork, examples: Examples, config: TrialConfig, rows: Ints | None = None) -> Seen:
    """The examples, or those of `rows`, as the network sees them."""
    chosen = examples if rows is None else examples.take(rows)
    inputs = as_inputs(chosen, config.data, None)
    batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, DEVICE)
    found = evaluated(network, batches, config.training, DEVICE)
    surest, predicted = found.probabilities.max(dim=1)
    return Seen(found.pooled.numpy(), chosen.labels, surest.numpy(), predicted.numpy() == chosen.labels)


def nearest(known: Floats, labels: Ints, share: float = 0.0) -> Scorer:
    """Cosine with the nearest known example after a share of them, as `trainables.novelty` has it; 0: the nearest."""
    similarity = Similarity(torch.from_numpy(known), max(1, round(share * len(known))))
    return lambda features: similarity(torch.from_numpy(features)).numpy()


def mahalanobis(known: Floats, labels: Ints) -> Scorer:
    """Mahalanobis distance of directions to the nearest class, negated, with one covariance for all classes (Lee et
    al., 2018, https://arxiv.org/abs/1807.03888), by Ledoit and Wolf."""
    known = _directions(known)
    present = np.unique(labels)
    means = np.stack([known[labels == k].mean(axis=0) for k in present])
    within = LedoitWolf(assume_centered=True).fit(known - means[np.searchsorted(present, labels)])

    def score(features: Floats) -> Floats:
        distances = [within.mahalanobis(_directions(features) - mean) for mean in means]
        return np.asarray(-np.min(distances, axis=0))

    return score


def _directions(features: Floats) -> Floats:
    exact = features.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))


def fitted(scorer_of: ScorerOf, folds: Sequence[Seen]) -> Scorer:
    """The score against all examples of several folds."""
    features, labels = [fold.features for fold in folds], [fold.labels for fold in folds]
    return scorer_of(np.concatenate(features), np.concatenate(labels))


def across_folds(scorer_of: ScorerOf, folds: Sequence[Seen]) -> Floats:
    """The score of each example of a fold against those of the other folds."""
    scores = []
    for number, own in enumerate(folds):
        scores.append(fitted(scorer_of, [*folds[:number], *folds[number + 1 :]])(own.features))
    return np.concatenate(scores)


def lines_of(scorers: dict[str, ScorerOf], folds: Sequence[Seen], splits: Sequence[Seen]) -> Iterator[str]:
    """A line for each score; `splits` are the test split, and the test and training images of other things."""
    for label, scorer_of in scorers.items():
        final = fitted(scorer_of, folds)
        yield line_of(label, across_folds(scorer_of, folds), *(final(split.features) for split in splits))


def line_of(label: str, calibration: Floats, known: Floats, strange: Floats, validated: Floats) -> str:
    """What a score finds, where low means unlike; the area on validation is of `calibration` against `validated`."""
    threshold = conformal_threshold(calibration)
    assert threshold is not None, "there are enough examples"
    false_alarms, found = (float((each < threshold).mean()) for each in (known, strange))
    return (
        f"{label:<34} false alarms {false_alarms:.3f}  found {found:.3f}  AUROC {_area(known, strange):.3f}  "
        f"validation: found {float((validated < threshold).mean()):.3f}  AUROC {_area(calibration, validated):.3f}"
    )


def _area(known: Floats, strange: Floats) -> float:
    truth = np.repeat([1, 0], [len(known), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([known, strange])))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--known", type=Path, required=True, help="photographs of the classes")
    parser.add_argument("--strange", type=Path, required=True, help="photographs of other things")
    parser.add_argument("--num-steps", type=int, default=60, help="0 calibrates the linear probe (default: 60)")
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    given = parser.parse_args(argv)
    config = config_of(given.known, given.num_steps, given.size_px, given.learning_rate)
    train, test = load_train(config.data), load_test(config.data)
    other = config_of(given.strange, given.num_steps, given.size_px).data
    splits = (test, load_test(other), load_train(other))
    print(
        f"{len(train)} training, {len(test)} test and {len(splits[1])} strange images; allowed {FALSE_ALARM_RATE:.0%}"
    )
    pretrained = build_network(config.backbone, train.num_classes, 0, False).to(DEVICE)
    folds, folds_before = [], []
    for number in range(1, NUM_FOLDS + 1):
        fold = fold_at(train, number, NUM_FOLDS, config.seed)
        rows = fold.validation[sampled_rows(len(fold.validation))]
        training = FoldTraining(config, train, number, fold, DEVICE)
        training.result()
        folds.append(seen_by(training.training.fit.method.student, train, config, rows))
        folds_before.append(seen_by(pretrained, train, config, rows))
    network, _ = train_full(config, train, DEVICE)
    final = [seen_by(network, split, config) for split in splits]
    before = [seen_by(pretrained, split, config) for split in splits]
    shares, rights = (np.concatenate(each) for each in zip(*((f.surest, f.is_right) for f in folds), strict=True))
    print(f"top-1 out of fold {rights.mean():.3f}, on the test images {final[0].is_right.mean():.3f}", flush=True)
    print(line_of("largest probability", shares, *(split.surest for split in final)), flush=True)
    tenth = partial(nearest, share=MAX_NEAREST / len(shares))
    scorers: dict[str, ScorerOf] = {
        f"{MAX_NEAREST}th nearest known example": tenth,
        "nearest known example": nearest,
        "Mahalanobis": mahalanobis,
    }
    for line in lines_of(scorers, folds, final):
        print(line, flush=True)
    for line in lines_of({f"{MAX_NEAREST}th nearest, pre-trained": tenth}, folds_before, before):
        print(line, flush=True)


if __name__ == "__main__":
    main()
