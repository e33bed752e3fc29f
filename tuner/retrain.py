"""The best configuration on the full training split, seed by seed; here the test split is met for the first time."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.errors import Diverged
from trainables.seeding import seed_for
from trainables.training.checkpoint import Checkpoints
from trainables.trial import accuracy_on, default_device, train_full
from tuner.classifier import save_classifier
from tuner.cluster import Share, as_they_end, shared
from tuner.trials import prepare_process

MODEL_SEED = 0
"""The retraining whose network becomes the model: the first. Fixed beforehand, so that no test score chooses it."""


@dataclass(frozen=True)
class Retrained:
    """One retraining: its seed's number, and its accuracy on the test split in [0, 1]."""

    seed: int
    test_top1: float
    duration_s: float
    loss_steps: list[int]
    loss_terms: dict[str, list[float]]


@dataclass(frozen=True)
class BrokenOff:
    """A retraining that diverged; with this seed it always will."""

    seed: int
    reason: str


def retrain(
    config: TrialConfig,
    seeds: list[int],
    train: Examples,
    test: Examples,
    share: Share,
    directory: Path,
    checkpoint_period_s: float | None = None,
) -> Iterator[Retrained | BrokenOff]:
    """Trains `config` once per seed, as many at a time as fit; yields each as it ends, or as it broke off.

    The network of `MODEL_SEED` is saved to `model/` in the experiment's `directory` before its result is yielded; what
    is under way goes to `checkpoints/` every `checkpoint_period_s`, until its result has been taken in.

    Raises:
        WorkerFailed: where a training raised, or its process died too often.
        MemoryError: where the examples do not fit into the object store.
    """
    train_ref, test_ref = shared(train), shared(test)
    kept = {seed: directory / "checkpoints" / f"retrain-{seed}.pt" for seed in seeds}
    jobs = [(config, seed, train_ref, test_ref, share, kept[seed], checkpoint_period_s) for seed in seeds]
    for retrained, files in as_they_end(_retrain_once, jobs, share):
        if files:
            put_folder(directory / "model", files)
        yield retrained
        Checkpoints(kept[retrained.seed], 0).discard()


def put_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Puts a folder of files in place at once, so that a crash leaves the old one or the new one."""
    fresh = directory.with_name(directory.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, content in files.items():
        (fresh / name).write_bytes(content)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)


def reseeded(config: TrialConfig, seed: int) -> TrialConfig:
    """`config` for the retraining number `seed`: its draws differ from the search's and from each other's."""
    return config.model_copy(update={"seed": seed_for(config.seed, "retrain", seed)})


def _retrain_once(
    config: TrialConfig,
    seed: int,
    train: Examples,
    test: Examples,
    share: Share,
    kept: Path,
    checkpoint_period_s: float | None,
) -> tuple[Retrained | BrokenOff, dict[str, bytes]]:
    prepare_process(share)
    config = reseeded(config, seed)
    checkpoints = None if checkpoint_period_s is None else Checkpoints(kept, checkpoint_period_s)
    ended = train_and_test(config, seed, train, test, checkpoints)
    if isinstance(ended, BrokenOff):
        return ended, {}
    retrained, network = ended
    return retrained, _classifier_files(network, config, train.class_names) if seed == MODEL_SEED else {}


def train_and_test(
    config: TrialConfig, seed: int, train: Examples, test: Examples, checkpoints: Checkpoints | None = None
) -> tuple[Retrained, TransferNetwork] | BrokenOff:
    """One training on all of `train`, scored on `test`, and its network; in this process. `config` is that seed's."""
    device = default_device()
    started = time.monotonic()
    try:
        network, fit = train_full(config, train, device, checkpoints)
    except Diverged as diverged:
        return BrokenOff(seed, str(diverged))
    accuracy = accuracy_on(network, test, config, device)
    return Retrained(seed, accuracy, time.monotonic() - started, fit.history.steps, fit.history.terms), network


def _classifier_files(network: TransferNetwork, config: TrialConfig, class_names: tuple[str, ...]) -> dict[str, bytes]:
    """The classifier as files' contents: the worker and the driver need not share a disk."""
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(Path(folder), network, config, class_names)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
