"""Linear probes of a search: computed once, in one Ray task, and handed to every worker that initialises a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from trainables.backbones import build_network
from trainables.config import TrialConfig
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import fold_at
from trainables.data.loading import source_key
from trainables.probe import Probe, fit_probe, pooled_features, probe_key
from trainables.trial import default_device
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.experiment.settings import SearchSettings
from tuner.resources.share import Share

ProbesByKey = Mapping[str, Probe]
"""Probes by `probe_key`, for `trainables.probe.PROBES.add`."""


def share_probes(
    configs: Iterable[TrialConfig], images: ImagesByKey, search: SearchSettings, share: Share
) -> dict[str, Probe]:
    """Fits the probes that trainings of `configs` with `head_init: probe` start from, in one Ray task.

    They are those of every fold's training part and of the full split, for each combination of evaluation view and
    pre-trained backbone. Returns none, without a task, if no configuration needs one.

    Raises:
        WorkerFailed: if the task raised an error, or its process died too often.
        MemoryError: if the images do not fit into the object store.
    """
    needed = probed(configs, images)
    if not needed:
        return {}
    job = (needed, put_shared(dict(images)), search, share)
    (probes,) = as_completed(fit_probes, [job], replace(share, concurrency=1))
    return probes


def probed(configs: Iterable[TrialConfig], images: ImagesByKey) -> list[TrialConfig]:
    """Returns the configurations whose heads start from a probe: one for each evaluation view, backbone and weighting.

    Those of random weights are left out, as no two trainings have the same.
    """
    distinct: dict[str, TrialConfig] = {}
    for config in configs:
        is_random = not config.backbone.pretrained and config.backbone.checkpoint is None
        if config.training.head_init == "probe" and not is_random:
            distinct.setdefault(probe_key(config, images[source_key(config.data)]), config)
    return list(distinct.values())


def fit_probes(
    configs: Sequence[TrialConfig], images: ImagesByKey, search: SearchSettings, share: Share
) -> dict[str, Probe]:
    """Fits the probes of every fold and of the full split for each of `configs`, from features computed once."""
    prepare_process(share)
    probes: dict[str, Probe] = {}
    for config in configs:
        probes |= _probes_of(config, images[source_key(config.data)], search)
    return probes


def _probes_of(config: TrialConfig, examples: Examples, search: SearchSettings) -> dict[str, Probe]:
    device = default_device()
    network = build_network(config.backbone, examples.num_classes, config.seed, False).to(device)
    if config.training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
    features_ND = pooled_features(network, inputs, config, device)
    numbers = range(1, search.num_trial_folds + 1)
    folds = [fold_at(examples.labels, number, search.folds, config.seed) for number in numbers]
    fit = partial(fit_probe, num_classes=examples.num_classes, class_weights=config.training.class_weights)
    probes = {probe_key(config, examples): fit(features_ND, examples.labels)}
    for fold in folds:
        part = examples.take(fold.train)
        probes[probe_key(config, part)] = fit(features_ND[fold.train], part.labels)
    return probes
