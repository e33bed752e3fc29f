"""What repeats of the folds are worth: `python -m benchmarks.repeats --root FOLDER --out FILE`.

Trains a few configurations on one small sample, on every fold of several deals, and on the full sample with several
seeds, scored on the test split. Then it says how noisy a fold is, and asks of every set of r deals which configuration
they would have chosen: how often it is the best by all other deals, and how far it is behind that (regret, in top-1).

The scores are appended to FILE as they come, so that an interrupted run goes on; with FILE complete nothing is trained.
Without `--root` the sample is of the packaged digits. `--recording FILE` says how noisy the folds of a recorded search
are. `--ratios` simulates searches whose folds are so noisy, as multiples of the spread of the trials, with racing: what
r deals choose where the number of fold trainings is the same for every r, so that a repeat costs trials.
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

from benchmarks.racing import Trials, read_recording, replay
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
BUDGETS = (45, 90)
"""Fold trainings of a simulated search."""
NUM_TRIALS = (4, 6, 8, 10, 12, 14, 17, 20, 24, 28, 33, 40, 48, 57, 68, 80)

Scores = NDArray[np.float64]
Place = tuple[str, int]
"""Configuration, and number of the fold from 1; 0, −1, … for the seeds of the full trainings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing, and prints what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeats")
    parser.add_argument("--root", type=Path, help="photographs in folders; without it the packaged digits")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--out", type=Path, help="file of the scores; without it nothing is trained")
    parser.add_argument("--deals", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="full trainings of each configuration")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--recording", type=Path, help="of `benchmarks.racing`")
    parser.add_argument("--ratios", type=float, nargs="*", default=[], help="noise of a fold / sd of the trials")
    parser.add_argument("--searches", type=int, default=120, help="simulated ones of each setting")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.recording:
        describe_recording(arguments.recording)
    for ratio in arguments.ratios:
        simulate(ratio, arguments.searches)
    if arguments.out is None:
        return 0
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
            fold = fold_at(train, number, NUM_FOLDS, config.seed)
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
    deal_sd, _ = fold_noise(means_CD.tolist())
    print(f"{noise_in_words(folds_CDF.reshape(len(folds_CDF), -1))}; noise of a deal's mean {deal_sd:.4f}")
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


def simulate(ratio: float, num_searches: int) -> None:
    """Prints the true quality of what is chosen with about as many fold trainings, whatever the number of repeats.

    Trials have a true quality with mean 0 and sd 1, and folds a noise of sd `ratio`; the racing rule `folds`
    stops trials.
    """
    for budget in BUDGETS:
        cells = []
        for repeats in (1, 2, 3):
            num_trials = next(
                n for n in NUM_TRIALS if searched(n, repeats, ratio, 12)[1] >= budget or n == NUM_TRIALS[-1]
            )
            quality, folds = searched(num_trials, repeats, ratio, num_searches)
            cells.append(f"r = {repeats}: {quality:.2f} of {num_trials} trials, {folds:.0f} folds")
        print(f"noise {ratio:g}: {'; '.join(cells)}", flush=True)


def searched(num_trials: int, repeats: int, ratio: float, num_searches: int) -> tuple[float, float]:
    """Returns the mean true quality of the chosen trial, and of the fold trainings, over simulated searches."""
    quality, folds = [], []
    for number in range(num_searches):
        rng = rng_for(number, "repeats", repeats, num_trials)
        true_T = rng.normal(size=num_trials)
        scores_TF = true_T[:, None] + ratio * rng.normal(size=(num_trials, NUM_FOLDS * repeats))
        ended = replay(Trials(scores_TF, quality=true_T), FoldRacing(), at_once=1)
        quality.append(float(true_T[scores_TF.mean(1).argmax()]) - ended.true_regret)
        folds.append(scores_TF.size / ended.saved)
    return fmean(quality), fmean(folds)


def describe_recording(file: Path) -> None:
    """Prints the noise of a recorded search's folds beside the spread of its trials, for the better ones."""
    scores_TF = read_recording(file)
    best_first = scores_TF[np.argsort(-scores_TF.mean(1), kind="stable")]
    for share in (1.0, 0.5):
        print(f"{file.stem}, best {share:.0%}: {noise_in_words(best_first[: round(share * len(best_first))])}")


def noise_in_words(scores_TF: Scores) -> str:
    """Describes the noise of a fold, and the spread of the trials without the noise in their means."""
    noise_sd, _ = fold_noise(scores_TF.tolist())
    true_sd = max(0.0, scores_TF.mean(1).var(ddof=1) - noise_sd**2 / scores_TF.shape[1]) ** 0.5
    ratio = f"{noise_sd / true_sd:.1f}" if true_sd else "∞"
    return f"noise of a fold {noise_sd:.4f}, sd of the trials {true_sd:.4f}, ratio {ratio}"


def _read(file: Path) -> Iterator[tuple[Place, float]]:
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, number, score = json.loads(line)
            yield (name, number), score


if __name__ == "__main__":
    raise SystemExit(main())
