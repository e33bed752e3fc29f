"""What repeats of the folds are worth: `python -m benchmarks.repeats --root FOLDER --out FILE`.

Trains a few configurations on one small sample, on every fold of several deals, and on the full sample with several
seeds, scored on the test split. Then it asks, of every set of r deals, which configuration they would have chosen: how
often it is the best by all other deals, and how far it is behind that (regret, in top-1). Last, it simulates more
configurations with the noise that was measured, and counts what racing leaves of the cost.

The scores are appended to FILE as they come, so that an interrupted run goes on; with FILE complete nothing is trained.
Without `--root` the sample is of the packaged digits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.racing import Trials, replay
from trainables.config import TrialConfig
from trainables.data.folds import fold_at
from trainables.data.loading import load_test, load_train
from trainables.seeding import rng_for
from trainables.trial import FoldTraining, accuracy_on, reseeded, train_full
from tuner.experiment.settings import FoldRacing
from tuner.scheduling.racing import fold_noise

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain 0.003": {"method": {"name": "l2"}, "learning_rate": 0.003},
    "plain 0.01": {"method": {"name": "l2"}, "learning_rate": 0.01},
    "plain 0.03": {"method": {"name": "l2"}, "learning_rate": 0.03},
    "mixup 0.01": {"method": {"name": "mixup"}, "learning_rate": 0.01},
    "mixup 0.03": {"method": {"name": "mixup"}, "learning_rate": 0.03},
    "smile 0.01": {"method": {"name": "smile", "gamma_fe": 0.01, "gamma_fc": 0.1}, "learning_rate": 0.01},
}
NUM_FOLDS = 3

Scores = NDArray[np.float64]
Place = tuple[str, int]
"""Configuration, and number of the fold from 1; 0, −1, … for the seeds of the full trainings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeats")
    parser.add_argument("--root", type=Path, help="photographs in folders; without it the packaged digits")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deals", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="full trainings of each configuration")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--size-px", type=int, default=64)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    scores = trained(arguments)
    folds_CDF = np.array(
        [
            [
                [scores[name, NUM_FOLDS * deal + part] for part in range(1, NUM_FOLDS + 1)]
                for deal in range(arguments.deals)
            ]
            for name in CONFIGURATIONS
        ]
    )
    tests_C = np.array([fmean(scores[name, -seed] for seed in range(arguments.seeds)) for name in CONFIGURATIONS])
    describe(folds_CDF, tests_C)
    simulate(folds_CDF)
    return 0


def trained(arguments: argparse.Namespace) -> dict[Place, float]:
    """Returns the score of every place, training those that the file lacks."""
    known = dict(_read(arguments.out))
    places = [(name, number) for number in range(1, arguments.deals * NUM_FOLDS + 1) for name in CONFIGURATIONS]
    places += [(name, -seed) for seed in range(arguments.seeds) for name in CONFIGURATIONS]
    missing = [place for place in places if place not in known]
    if not missing:
        return known
    configs = {name: config_of(settings, arguments) for name, settings in CONFIGURATIONS.items()}
    first = next(iter(configs.values()))
    train, test = load_train(first.data), load_test(first.data)
    started_s = time.monotonic()
    for count, (name, number) in enumerate(missing, start=1):
        config = configs[name]
        if number > 0:
            fold = fold_at(train.labels, number, NUM_FOLDS, config.seed)
            score = FoldTraining(config, train, number, fold).result().val_top1
        else:
            network, _ = train_full(reseeded(config, -number), train)
            score = accuracy_on(network, test, config, torch.device("cpu"))
        known[name, number] = score
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, number, score]) + "\n")
        left_s = (time.monotonic() - started_s) / count * (len(missing) - count)
        print(f"{count}/{len(missing)} {name} {number}: {score:.4f}, {left_s:.0f} s left", flush=True)
    return known


def config_of(settings: dict[str, Any], arguments: argparse.Namespace) -> TrialConfig:
    """Builds the configuration of a row of `CONFIGURATIONS`."""
    data: dict[str, Any] = {"size_px": arguments.size_px, "train_images": arguments.images}
    digits = {"dataset": "digits", "flip": False, "test_images": 500}
    data |= digits if arguments.root is None else {"dataset": "imagefolder", "root": str(arguments.root)}
    training = {"num_steps": arguments.steps, "batch_size": 16, "learning_rate": settings["learning_rate"]}
    sections = {"data": data, "backbone": {"name": "package/efficientnet_lite0"}, "method": settings["method"]}
    return TrialConfig.model_validate({**sections, "training": training})


def describe(folds_CDF: Scores, tests_C: Scores) -> None:
    """Prints the scores, the noise of a deal's mean, and what r deals would choose."""
    means_CD = folds_CDF.mean(2)
    for name, means_D, test in zip(CONFIGURATIONS, means_CD, tests_C, strict=True):
        print(f"{name:12} {means_D.mean():.4f}  deals {' '.join(f'{mean:.3f}' for mean in means_D)}  test {test:.4f}")
    noise_sd, _ = fold_noise(means_CD.tolist())
    fold_sd, _ = fold_noise(folds_CDF.reshape(len(folds_CDF), -1).tolist())
    print(f"sd of a configuration's residual: {fold_sd:.4f} of a fold, {noise_sd:.4f} of a deal's mean")
    print(f"sd between configurations {means_CD.mean(1).std(ddof=1):.4f}; of the test scores {tests_C.std(ddof=1):.4f}")
    num_deals = means_CD.shape[1]
    for count in range(1, num_deals):
        picked = [pick(means_CD, chosen) for chosen in itertools.combinations(range(num_deals), count)]
        same, regret = fmean(best == top for best, top, _ in picked), fmean(lost for _, _, lost in picked)
        test = fmean(float(tests_C[best]) for best, _, _ in picked)
        print(f"r = {count}: best of the others {same:.0%}, regret {regret:.4f}, test of the chosen {test:.4f}")


def pick(means_CD: Scores, deals: Sequence[int]) -> tuple[int, int, float]:
    """Returns the choice of some deals, that of the others, and how far the first is behind by the others."""
    others_C = np.delete(means_CD, deals, axis=1).mean(1)
    chosen, best = int(means_CD[:, deals].mean(1).argmax()), int(others_C.argmax())
    return chosen, best, float(others_C[best] - others_C[chosen])


def simulate(folds_CDF: Scores, num_trials: int = 20, num_searches: int = 400) -> None:
    """Prints what r deals choose among more configurations of the measured spread and noise, and what they cost."""
    scores_CK = folds_CDF.reshape(len(folds_CDF), -1)
    noise_sd, _ = fold_noise(scores_CK.tolist())
    true_sd = max(0.0, scores_CK.mean(1).var(ddof=1) - noise_sd**2 / scores_CK.shape[1]) ** 0.5
    print(f"simulated: {num_trials} trials, true sd {true_sd:.4f}, noise of a fold {noise_sd:.4f}")
    for repeats in range(1, 6):
        lost, folds = [], []
        for number in range(num_searches):
            rng = rng_for(number, "repeats", repeats)
            true_T = true_sd * rng.normal(size=num_trials)
            noise_TF = noise_sd * rng.normal(size=(num_trials, NUM_FOLDS * repeats))
            ended = replay(Trials(true_T[:, None] + noise_TF, quality=true_T), FoldRacing(), at_once=1)
            full = true_T.max() - true_T[(true_T[:, None] + noise_TF).mean(1).argmax()]
            lost.append(float(full) + ended.true_regret)
            folds.append(noise_TF.size / ended.saved)
        print(f"r = {repeats}: regret {fmean(lost):.4f}, {fmean(folds):.0f} fold trainings with racing")


def _read(file: Path) -> Iterator[tuple[Place, float]]:
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, number, score = json.loads(line)
            yield (name, number), score


if __name__ == "__main__":
    raise SystemExit(main())
