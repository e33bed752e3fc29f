"""Retrains the best configuration on the full training split, seed by seed; the first use of the test split."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainables.backbones.network import TransferNetwork
from trainables.classifier import save_classifier
from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.results import RetrainFailed, RetrainResult
from trainables.training.checkpoint import Checkpoints
from trainables.trial import MODEL_SEED, reseeded, train_and_test
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import prepare_process
from tuner.record.directory import RunDirectory
from tuner.resources.share import Share


def retrain(
    config: TrialConfig,
    seeds: list[int],
    train: Examples,
    test: Examples,
    share: Share,
    directory: RunDirectory,
    checkpoint_period_s: float | None = None,
) -> Iterator[RetrainResult | RetrainFailed]:
    """Trains `config` once per seed, as many at a time as fit; yields each as it ends, or as it broke off.

    The network of `MODEL_SEED` is saved to `model/` in the experiment's `directory` before its result is yielded; what
    is under way goes to `checkpoints/` every `checkpoint_period_s`, until its result has been taken in.

    Raises:
        WorkerFailed: where a training raised, or its process died too often.
        MemoryError: where the examples do not fit into the object store.
    """
    train_ref, test_ref = put_shared(train), put_shared(test)
    kept = {seed: directory.retraining_checkpoint(seed) for seed in seeds}
    jobs = [(config, seed, train_ref, test_ref, share, kept[seed], checkpoint_period_s) for seed in seeds]
    for retrained, files in as_completed(_retrain_once, jobs, share):
        if files:
            put_folder(directory.model, files)
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


def _retrain_once(
    config: TrialConfig,
    seed: int,
    train: Examples,
    test: Examples,
    share: Share,
    kept: Path,
    checkpoint_period_s: float | None,
) -> tuple[RetrainResult | RetrainFailed, dict[str, bytes]]:
    prepare_process(share)
    config = reseeded(config, seed)
    checkpoints = None if checkpoint_period_s is None else Checkpoints(kept, checkpoint_period_s)
    ended = train_and_test(config, seed, train, test, checkpoints)
    if isinstance(ended, RetrainFailed):
        return ended, {}
    retrained, network = ended
    return retrained, _classifier_files(network, config, train.class_names) if seed == MODEL_SEED else {}


def _classifier_files(network: TransferNetwork, config: TrialConfig, class_names: tuple[str, ...]) -> dict[str, bytes]:
    """The classifier as files' contents: the worker and the driver need not share a disk."""
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(Path(folder), network, config, class_names)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
