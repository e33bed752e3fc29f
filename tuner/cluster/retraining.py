"""Retraining of the best configuration and of the baselines on the full training split; the first use of the test
split."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.backbones.network import TransferNetwork
from trainables.classifier import Classifier, Network, save_classifier
from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.loading import load_test, source_key, test_key
from trainables.ensemble import ensemble_and_test
from trainables.predictions import Predictions
from trainables.probe import PROBES
from trainables.results import EnsembleResult, RetrainFailed, RetrainResult
from trainables.training.checkpoint import Checkpoints
from trainables.trial import reseeded, train_and_test
from tuner.cluster.capacity import LiveCapacity
from tuner.cluster.probes import ProbesByKey
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.record.baselines import LABELS
from tuner.record.directory import RunDirectory
from tuner.record.history import Contender
from tuner.record.live_steps import StepFile, shown_in
from tuner.record.predictions import PredictionFiles
from tuner.resources.share import Share


@dataclass(frozen=True)
class Retraining:
    """Training number `seed` of `config` on the full training split, on behalf of a trial or a baseline.

    The network of one with `makes_model` becomes the model; that of one with `is_member` is kept for the ensemble. It
    ends after `share` of its steps.
    """

    of: Contender
    config: TrialConfig
    seed: int
    makes_model: bool = False
    is_member: bool = False
    share: float = 1.0

    @property
    def label(self) -> str:
        """Name in the progress display: `retraining seed 0`."""
        return f"{LABELS[self.of]} seed {self.seed}" if isinstance(self.of, str) else f"retraining seed {self.seed}"

    def checkpoint_file(self, directory: RunDirectory) -> Path:
        """Returns the file of its checkpoint."""
        return directory.retraining_checkpoint(self.seed, self.of if isinstance(self.of, str) else "")


def retrain(
    retrainings: Sequence[Retraining],
    images: ImagesByKey,
    probes: ProbesByKey,
    share: Share,
    directory: RunDirectory,
    checkpoint_period_s: float | None = None,
) -> Iterator[tuple[Retraining, RetrainResult | RetrainFailed]]:
    """Runs every retraining, as many at a time as the share says. Yields each with its result as it ends.

    `images` are the training splits; the test splits are loaded here. A training that diverged or collapsed has a
    `RetrainFailed`. The network that becomes the model is saved to the run's `model/` before its result is yielded,
    those of an ensemble to folders of their own.
    Trainings write checkpoints every `checkpoint_period_s` (None: never), which are removed when the caller asks for
    the next result.

    Raises:
        WorkerFailed: if a training raised an error, or its process died too often.
        MemoryError: if the examples do not fit into the object store.
    """
    train_data = {source_key(data): data for data in (each.config.data for each in retrainings)}
    test_data = {test_key(data): data for data in train_data.values()}
    train_refs = {key: put_shared(images[key]) for key in train_data}
    test_refs = {key: put_shared(load_test(data)) for key, data in test_data.items()}
    probes_ref = put_shared(dict(probes))
    jobs = []
    for each in retrainings:
        data = each.config.data
        examples = (train_refs[source_key(data)], test_refs[test_key(data)], probes_ref)
        step_file = StepFile(directory.live_steps, each.label)
        jobs.append((each, *examples, share, each.checkpoint_file(directory), checkpoint_period_s, step_file))
    kept = PredictionFiles(directory)
    ended = as_completed(_retrain_once, jobs, share, capacity=LiveCapacity(share))
    for each, retrained, files, predictions in ended:
        if predictions is not None:
            kept.add_test(each.of, each.seed, predictions)
        if files:
            put_folder(directory.model if each.makes_model else directory.ensemble_member(each.seed), files)
        yield each, retrained
        Checkpoints(each.checkpoint_file(directory), 0).discard()


def make_ensemble(
    of: Contender,
    config: TrialConfig,
    seeds: Sequence[int],
    images: ImagesByKey,
    share: Share,
    directory: RunDirectory,
) -> EnsembleResult:
    """Makes the model of the networks that retrainings of `config` with `seeds` left, and scores it on the test split.

    `config` is that of the trial or baseline `of`, and `images` are the training splits. The model is saved to the
    run's `model/`; the networks are removed.

    Raises:
        WorkerFailed: if the worker raised an error, or died too often.
        MemoryError: if the examples do not fit into the object store.
    """
    members = [directory.ensemble_member(seed) for seed in seeds]
    files = [{path.name: path.read_bytes() for path in member.iterdir()} for member in members]
    train, test = put_shared(images[source_key(config.data)]), put_shared(load_test(config.data))
    job = (config, tuple(seeds), put_shared(files), train, test, share)
    result, model, predictions = next(iter(as_completed(_ensemble_once, [job], share)))
    PredictionFiles(directory).add_test(of, None, predictions)
    put_folder(directory.model, model)
    shutil.rmtree(directory.ensemble_members, ignore_errors=True)
    return result


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
    retraining: Retraining,
    train: Examples,
    test: Examples,
    probes: ProbesByKey,
    share: Share,
    checkpoint_file: Path,
    checkpoint_period_s: float | None,
    step_file: StepFile | None = None,
) -> tuple[Retraining, RetrainResult | RetrainFailed, dict[str, bytes], Predictions | None]:
    prepare_process(share)
    PROBES.add(probes)
    config = reseeded(retraining.config, retraining.seed)
    checkpoints = None if checkpoint_period_s is None else Checkpoints(checkpoint_file, checkpoint_period_s)
    with shown_in(step_file):
        ended = train_and_test(config, retraining.seed, train, test, checkpoints, retraining.share)
    if isinstance(ended, RetrainFailed):
        return retraining, ended, {}, None
    is_kept = retraining.makes_model or retraining.is_member
    files = _classifier_files(ended.network, config, train.class_names) if is_kept else {}
    return retraining, ended.result, files, ended.test


def _ensemble_once(
    config: TrialConfig,
    seeds: tuple[int, ...],
    members: list[dict[str, bytes]],
    train: Examples,
    test: Examples,
    share: Share,
) -> tuple[EnsembleResult, dict[str, bytes], Predictions]:
    prepare_process(share)
    networks: list[TransferNetwork] = []
    for files in members:
        with tempfile.TemporaryDirectory() as folder:
            put_folder(Path(folder, "member"), files)
            network = Classifier.load(Path(folder, "member")).network
        assert isinstance(network, TransferNetwork)
        networks.append(network)
    result, ensemble, predictions = ensemble_and_test(config, networks, seeds, train, test)
    return result, _classifier_files(ensemble, reseeded(config, seeds[0]), test.class_names), predictions


def _classifier_files(network: Network, config: TrialConfig, class_names: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the classifier as files' contents, as worker and driver may not share a disk."""
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(Path(folder), network, config, class_names)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
