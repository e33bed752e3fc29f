"""What a linear probe takes and what it is worth: `python -m benchmarks.probe --root FOLDER`.

    probe_s   processor seconds of the regression with the choice of its regularisation, features not included

Printed besides: seconds of the features, the chosen regularisation D·C, and top-1 on the test split. With `--steps`,
plain fine-tuning with frozen BatchNorm starts from the probe and is scored, too; `--strength` sets D·C.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from benchmarks.figures import Figure, report
from trainables import probe
from trainables.backbones import build_network
from trainables.config import TrialConfig
from trainables.data.examples import Examples, as_inputs
from trainables.data.loading import load_test, load_train
from trainables.errors import TrainingFailed
from trainables.trial import accuracy_on, default_device, train_full


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where the regression takes too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe")
    parser.add_argument("--root", required=True, help="photographs: a folder that holds train/ and test/")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--strength", type=float, help="D·C, in place of the choice")
    parser.add_argument("--steps", type=int, default=0, help="of fine-tuning from the probe")
    parser.add_argument("--learning-rate", type=float, default=0.001)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    return report(measure(arguments))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figure."""
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "imagefolder", "root": arguments.root, "size_px": arguments.size_px},
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": {"name": "l2"},
            "training": {
                "num_steps": arguments.steps,
                "batch_size": 24,
                "learning_rate": arguments.learning_rate,
                "schedule": "cosine",
                "head_init": "probe",
                "batch_norm": "frozen",
            },
        }
    )
    train, test, device = load_train(config.data), load_test(config.data), default_device()
    network = build_network(config.backbone, train.num_classes, 0, False).to(device)
    if arguments.strength is not None:
        probe.GRID = (arguments.strength,)
    inputs = as_inputs(train, config.data, network.backbone.tokenizer)
    started_s = time.monotonic()
    features = probe.pooled_features(network, inputs, config, device)
    features_s, started_s = time.monotonic() - started_s, time.process_time()
    fitted = probe.fit_probe(features, train.labels, train.num_classes)
    probe_s = time.process_time() - started_s
    fitted.write_to(network.target_head)
    strength = features.shape[1] * fitted.regularisation
    print(f"{features.shape[0]} × {features.shape[1]} features in {features_s:.1f} s, D·C = {strength:.3g}")
    print(f"top-1 of the probe {accuracy_on(network, test, config, device):.3f}", flush=True)
    if arguments.steps:
        print(f"top-1 after {arguments.steps} steps {fine_tuned(config, train, test, device)}", flush=True)
    return [Figure("probe_s", probe_s, 5.0)]


def fine_tuned(config: TrialConfig, train: Examples, test: Examples, device: torch.device) -> str:
    """Accuracy on the test split after a training, or why there is none."""
    try:
        return f"{accuracy_on(train_full(config, train, device)[0], test, config, device):.3f}"
    except TrainingFailed as failed:
        return str(failed)


if __name__ == "__main__":
    raise SystemExit(main())
