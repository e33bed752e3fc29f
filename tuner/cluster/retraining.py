"""Retraining of the best configuration on the full training split with several seeds; the first use of the test
split."""

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
    """Trains `config` once for each seed, as many at a time as the share says. Yields each result as it ends.

    A training that diverged or collapsed yields a `RetrainFailed`. The network of `MODEL_SEED` is saved to the run's
    `model/` before its result is yielded. Trainings write checkpoints every `checkpoint_period_s` (None: never), which
    are removed when the caller asks for the next result.

    Raises:
        WorkerFailed: if a training raised an error, or its process died too often.
        MemoryError: if the examples do not fit into the object store.
    """
    train_ref, test_ref = put_shared(train), put_shared(test)
    checkpoint_files = {seed: directory.retraining_checkpoint(seed) for seed in seeds}
    jobs = [(config, seed, train_ref, test_ref, share, checkpoint_files[seed], checkpoint_period_s) for seed in seeds]
    for retrained, files in as_completed(_retrain_once, jobs, share):
        if files:
            put_folder(directory.model, files)
        yield retrained
        Checkpoints(checkpoint_files[retrained.seed], 0).discard()


def put_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Replaces a folder by files with their contents. A crash leaves no partly written folder."""
    new = directory.with_name(directory.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name, content in files.items():
        (new / name).write_bytes(content)
    shutil.rmtree(directory, ignore_errors=True)
    new.rename(directory)


def _retrain_once(
    config: TrialConfig,
    seed: int,
    train: Examples,
    test: Examples,
    share: Share,
    checkpoint_file: Path,
    checkpoint_period_s: float | None,
) -> tuple[RetrainResult | RetrainFailed, dict[str, bytes]]:
    prepare_process(share)
    config = reseeded(config, seed)
    checkpoints = None if checkpoint_period_s is None else Checkpoints(checkpoint_file, checkpoint_period_s)
    ended = train_and_test(config, seed, train, test, checkpoints)
    if isinstance(ended, RetrainFailed):
        return ended, {}
    retrained, network = ended
    return retrained, _classifier_files(network, config, train.class_names) if seed == MODEL_SEED else {}


def _classifier_files(network: TransferNetwork, config: TrialConfig, class_names: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the classifier as files' contents, as worker and driver may not share a disk."""
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(Path(folder), network, config, class_names)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
