"""What could be added to the recipe of `imagefolder.yaml`, measured by validation alone:
`python -m benchmarks.recipe_extras --root FOLDER`.

FOLDER holds train/ with a folder a class; its test split, if it has one, is never read. Every configuration is trained
with several seeds on the folds of the training split, dealt anew `--repeats` times. Each extra is compared with the
same trainings without it, fold by fold (mean over the seeds of a fold):

flips            mean probabilities of each image and its mirror image
size_NNN         evaluation at NNN px, images decoded anew for it
last_third       weights averaged over the last third of the steps
soup             weights averaged over the seeds, which share the initial head with `--head-init probe`
soup_flips       both
probabilities    mean probabilities of the networks of all seeds

Ends with one line an extra: `method extra without with difference ± standard error [points], folds`. Folds of one deal
share training images, so the standard error is somewhat too small.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.backbones.copying import clone
from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.config import DataConfig
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import Fold, stratified_folds
from trainables.data.loading import load_train
from trainables.ensemble import EnsembleNetwork
from trainables.errors import Diverged
from trainables.seeding import seed_for
from trainables.training.evaluation import predicted_probabilities
from trainables.trial import Training, default_device
from trainables.types import Batch

SINGLE = "single"
METHODS: dict[str, dict[str, Any]] = {
    "l2": {"name": "l2"},
    "mixup": {"name": "mixup"},
    "smile": {"name": "smile", "gamma_fe": 0.01, "gamma_fc": 0.1},
}

Scores = dict[str, float]
"""Extra → top-1 accuracy in [0, 1] on the validation part of a fold."""


class WeightAverage:
    """Running mean of the floating-point tensors in the states of a network; others are those of the latest."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, network: nn.Module) -> None:
        """Takes the present state in."""
        self.count += 1
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point() or name not in self.mean:
                self.mean[name] = tensor.clone()
            else:
                self.mean[name].lerp_(tensor, 1 / self.count)

    def written_to(self, network: TransferNetwork) -> TransferNetwork:
        """A copy of `network` that has the mean."""
        averaged = clone(network)
        averaged.load_state_dict(self.mean)
        return averaged


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe_extras")
    parser.add_argument("--root", type=Path, required=True, help="photographs: a folder that holds train/")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["l2"])
    for name, default in (("steps", 100), ("batch-size", 24), ("size-px", 128), ("larger-px", 160)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("folds", 3), ("repeats", 1), ("seeds", 2), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--train-fraction", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--max-grad-norm", type=float)
    parser.add_argument("--schedule", default="cosine")
    parser.add_argument("--resize", choices=["squash", "short_side"], default="short_side")
    parser.add_argument("--head-init", choices=["random", "probe"], default="probe")
    parser.add_argument("--batch-norm", choices=["train", "frozen"], default="frozen")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    for method in arguments.methods:
        of_folds: list[Scores] = []
        for scores in folds_of(method, arguments):
            of_folds.append(scores)
            print(method, *(f"{extra}={score:.3f}" for extra, score in scores.items()), flush=True)
        for line in table(method, of_folds):
            print(line, flush=True)
    return 0


def config_of(method: str, arguments: argparse.Namespace, size_px: int) -> TrialConfig:
    """The configuration, with images of that size."""
    sections = {
        "data": DataConfig(
            dataset="imagefolder",
            root=arguments.root,
            size_px=size_px,
            resize=arguments.resize,
            train_fraction=arguments.train_fraction,
        ),
        "backbone": {"name": "package/efficientnet_lite0"},
        "method": METHODS[method],
        "training": {
            "num_steps": arguments.steps,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "max_grad_norm": arguments.max_grad_norm,
            "schedule": arguments.schedule,
            "head_init": arguments.head_init,
            "batch_norm": arguments.batch_norm,
        },
    }
    return TrialConfig.model_validate(sections)


def folds_of(method: str, arguments: argparse.Namespace) -> Iterator[Scores]:
    """The scores of each fold of each deal; a fold with a training that diverges is left out."""
    config, larger = (config_of(method, arguments, size) for size in (arguments.size_px, arguments.larger_px))
    examples, large_examples = load_train(config.data), load_train(larger.data)
    for deal in range(arguments.repeats):
        seed = seed_for(0, "recipe_extras", deal)
        for fold in stratified_folds(examples.labels, arguments.folds, seed, groups=examples.groups):
            validation = examples.take(fold.validation)
            views: dict[str, Callable[[TransferNetwork | EnsembleNetwork], float]] = {
                SINGLE: partial(accuracy, config=config, validation=validation),
                "flips": partial(accuracy, config=config, validation=validation, flips=True),
                f"size_{arguments.larger_px}": partial(
                    accuracy, config=larger, validation=large_examples.take(fold.validation)
                ),
            }
            try:
                yield scores_of_fold(config, examples, fold, arguments.seeds, views)
            except Diverged as diverged:
                print(f"{method}: {diverged}", flush=True)


def scores_of_fold(
    config: TrialConfig,
    examples: Examples,
    fold: Fold,
    num_seeds: int,
    views: dict[str, Callable[[TransferNetwork | EnsembleNetwork], float]],
) -> Scores:
    """Trains with each seed, and scores with and without each extra; means over the seeds."""
    of_seeds: dict[str, list[float]] = {}
    soup, network, networks = WeightAverage(), None, []
    for seed in range(num_seeds):
        network, last_third = trained(config, examples.take(fold.train), seed)
        soup.add(network)
        networks.append(network)
        for extra, score in views.items():
            of_seeds.setdefault(extra, []).append(score(network))
        of_seeds.setdefault("last_third", []).append(views[SINGLE](last_third.written_to(network)))
    assert network is not None
    mixed = soup.written_to(network)
    means = {extra: statistics.mean(scores) for extra, scores in of_seeds.items()}
    together = views[SINGLE](EnsembleNetwork(networks))
    return means | {"soup": views[SINGLE](mixed), "soup_flips": views["flips"](mixed), "probabilities": together}


def trained(config: TrialConfig, train: Examples, seed: int) -> tuple[TransferNetwork, WeightAverage]:
    """The network trained with that seed, and the average over the last third of its steps. Raises Diverged."""
    seeded = config.model_copy(update={"seed": seed})
    training = Training(seeded, train, seed_for(seed, "recipe_extras"), default_device())
    fit, last_third = training.fit, WeightAverage()
    num_steps = config.training.num_steps
    assert num_steps is not None

    def watch() -> None:
        if 3 * fit.step > 2 * num_steps:
            last_third.add(fit.method.student)

    fit.run(watch=watch)
    return fit.method.student, last_third


def accuracy(
    network: TransferNetwork | EnsembleNetwork, config: TrialConfig, validation: Examples, flips: bool = False
) -> float:
    """Top-1 accuracy in [0, 1]; with `flips`, of the mean probabilities of images and mirror images."""
    inputs = as_inputs(validation, config.data, network.backbone.tokenizer)
    device = default_device()

    def predicted(change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, device)
        changed: Iterator[Batch] = (replace(batch, inputs=change(batch.inputs)) for batch in batches)
        return predicted_probabilities(network, changed, config.training, device)

    probabilities, labels = predicted(lambda images: images)
    if flips:
        probabilities = probabilities + predicted(lambda images: images.flip(-1))[0]
    return float((probabilities.argmax(dim=1) == labels).double().mean())


def table(method: str, of_folds: Sequence[Scores]) -> Iterator[str]:
    """One line an extra: its mean, and the paired difference with its standard error, in points."""
    if len(of_folds) < 2:
        yield f"{method}: fewer than two folds"
        return
    without = statistics.mean(scores[SINGLE] for scores in of_folds)
    for extra in (extra for extra in of_folds[0] if extra != SINGLE):
        differences = [100 * (scores[extra] - scores[SINGLE]) for scores in of_folds]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        difference = statistics.mean(differences)
        yield (
            f"{method} {extra} {without:.3f} {without + difference / 100:.3f} "
            f"{difference:+.1f} ± {error:.1f} points, {len(differences)} folds"
        )


if __name__ == "__main__":
    raise SystemExit(main())
