"""What the threshold for "unlike anything seen" finds, in photographs of other things:

    python -m benchmarks.unlike --known FOLDER --strange FOLDER

A classifier is fine-tuned on the training split of `--known` (layout of `imagefolder`), and calibrated on its
out-of-fold predictions. Printed are the share of test images of the known classes that are called unlike (false
alarms), that of the images of `--strange` (found), and the area under the ROC curve; beside it the same for the
similarity to the nearest training image in the features of the pre-trained network, calibrated leaving one out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.calibration import FALSE_ALARM_RATE, unlike_threshold
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import stratified_folds
from trainables.data.loading import load_test, load_train
from trainables.probe import pooled_features
from trainables.training.evaluation import predicted_probabilities
from trainables.trial import default_device, train_full

Floats = NDArray[np.float32]
NUM_FOLDS = 3
DEVICE = default_device()


def config_of(root: Path, num_steps: int, size_px: int) -> TrialConfig:
    """Plain fine-tuning from a probe, with frozen BatchNorm."""
    training = {
        "head_init": "probe",
        "batch_norm": "frozen",
        "num_steps": num_steps,
        "batch_size": 24,
        "learning_rate": 0.002,
    }
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "imagefolder", "root": str(root), "size_px": size_px},
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": {"name": "l2"},
            "training": training,
        }
    )


def probabilities_of(network: TransferNetwork, examples: Examples, config: TrialConfig) -> Floats:
    """Class probabilities N×K."""
    inputs = as_inputs(examples, config.data, None)
    batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, DEVICE)
    return np.asarray(predicted_probabilities(network, batches, config.training, DEVICE)[0])


def by_probability(config: TrialConfig, train: Examples, test: Examples, strange: Examples) -> tuple[Floats, ...]:
    """Largest probabilities: out of fold, and by the model of test and of strange images."""
    out_of_fold = []
    for fold in stratified_folds(train.labels, NUM_FOLDS, config.seed):
        network, _ = train_full(config, train.take(fold.train), DEVICE)
        out_of_fold.append(probabilities_of(network, train.take(fold.validation), config).max(axis=1))
    network, _ = train_full(config, train, DEVICE)
    known, other = (probabilities_of(network, each, config) for each in (test, strange))
    print(f"top-1 on the test images: {(known.argmax(axis=1) == test.labels).mean():.4f}", flush=True)
    return np.concatenate(out_of_fold), known.max(axis=1), other.max(axis=1)


def by_distance(config: TrialConfig, train: Examples, test: Examples, strange: Examples) -> tuple[Floats, ...]:
    """Cosine similarities to the nearest training image: of each to the others, of test and of strange images."""
    network = build_network(config.backbone, train.num_classes, 0, False).to(DEVICE)
    features = []
    for each in (train, test, strange):
        found = pooled_features(network, as_inputs(each, config.data, None), config, DEVICE)
        features.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    to_others = features[0] @ features[0].T
    np.fill_diagonal(to_others, -1)
    return to_others.max(axis=1), *((each @ features[0].T).max(axis=1) for each in features[1:])


def line_of(label: str, calibration: Floats, known: Floats, strange: Floats) -> str:
    """What a score finds, where low means unlike."""
    threshold = unlike_threshold(calibration[:, None])
    truth, scores = np.repeat([0, 1], [len(known), len(strange)]), -np.concatenate([known, strange])
    false_alarms, found = (float((each < threshold).mean()) for each in (known, strange))
    area = float(roc_auc_score(truth, scores))
    return (
        f"{label:<22} threshold {threshold:.4f}  false alarms {false_alarms:.3f}  found {found:.3f}  AUROC {area:.3f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--known", type=Path, required=True, help="photographs of the classes")
    parser.add_argument("--strange", type=Path, required=True, help="photographs of other things")
    parser.add_argument("--num-steps", type=int, default=60, help="0 calibrates the linear probe (default: 60)")
    parser.add_argument("--size-px", type=int, default=96)
    given = parser.parse_args(argv)
    config = config_of(given.known, given.num_steps, given.size_px)
    train, test = load_train(config.data), load_test(config.data)
    strange = load_test(config_of(given.strange, given.num_steps, given.size_px).data)
    print(f"{len(train)} training, {len(test)} test and {len(strange)} strange images; allowed {FALSE_ALARM_RATE:.0%}")
    for label, scores in (("largest probability", by_probability), ("nearest training image", by_distance)):
        started_s = time.monotonic()
        line = line_of(label, *scores(config, train, test, strange))
        print(f"{line}  ({time.monotonic() - started_s:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
