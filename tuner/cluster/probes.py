"""Linear probes of a search: computed once, in one Ray task, and handed to every worker that initialises a head.

The same features tell which images are near twins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.backbones import build_network
from trainables.config import TrialConfig
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import Fold, fold_at
from trainables.data.loading import source_key
from trainables.device import default_device
from trainables.near_twins import NearTwins, count_near_twins
from trainables.probe import Probe, fit_probe, pooled_features, probe_key
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.experiment.settings import SearchSettings
from tuner.resources.share import Share

ProbesByKey = Mapping[str, Probe]
"""Probes by `probe_key`, for `trainables.probe.PROBES.add`."""


@dataclass(frozen=True)
class SharedProbes:
    """The probes of a search, and the near twins across its folds, from the same features; None if not counted."""

    probes: dict[str, Probe]
    near_twins: NearTwins | None = None


def share_probes(
    configs: Iterable[TrialConfig],
    images: ImagesByKey,
    search: SearchSettings,
    share: Share,
    counting_twins: bool = False,
) -> SharedProbes:
    """Fits the probes that trainings of `configs` with `head_init: probe` start from, in one Ray task.

    They are those of every fold's training part and of the full split, for each combination of evaluation view and
    pre-trained backbone. Near twins are counted, if they are to be, by the features of the first one. There is no task
    if no configuration needs a probe and nothing is counted.

    Raises:
        WorkerFailed: if the task raised an error, or its process died too often.
        MemoryError: if the images do not fit into the object store.
    """
    configs = list(configs)
    needed = probed(configs, images)
    counted = next(filter(_can_count_twins, [*needed, *configs]), None) if counting_twins else None
    if not needed and counted is None:
        return SharedProbes({})
    job = (needed, put_shared(dict(images)), search, share, counted)
    (shared,) = as_completed(fit_probes, [job], replace(share, concurrency=1))
    return shared


def probed(configs: Iterable[TrialConfig], images: ImagesByKey) -> list[TrialConfig]:
    """Returns the configurations whose heads start from a probe: one for each evaluation view, backbone and weighting.

    Those of random weights are left out, as no two trainings have the same.
    """
    distinct: dict[str, TrialConfig] = {}
    for config in configs:
        if config.training.head_init == "probe" and _is_trained(config):
            distinct.setdefault(probe_key(config, images[source_key(config.data)]), config)
    return list(distinct.values())


def fit_probes(
    configs: Sequence[TrialConfig],
    images: ImagesByKey,
    search: SearchSettings,
    share: Share,
    counted: TrialConfig | None = None,
) -> SharedProbes:
    """Fits the probes of every fold and of the full split for each of `configs`, from features computed once, and
    counts the near twins across the folds of the first deal by the features of `counted`."""
    prepare_process(share)
    probes: dict[str, Probe] = {}
    near_twins = None
    for config in configs if counted is None or counted in configs else [*configs, counted]:
        examples = images[source_key(config.data)]
        features_ND = _features(config, examples)
        folds = [fold_at(examples, k, search.folds, config.seed) for k in range(1, search.num_trial_folds + 1)]
        if config == counted:
            near_twins = count_near_twins(features_ND, folds[: search.folds])
        if config in configs:
            probes |= _probes_of(config, examples, features_ND, folds)
    return SharedProbes(probes, near_twins)


def _can_count_twins(config: TrialConfig) -> bool:
    return not config.data.has_texts and _is_trained(config)


def _is_trained(config: TrialConfig) -> bool:
    return config.backbone.pretrained or config.backbone.checkpoint is not None


def _features(config: TrialConfig, examples: Examples) -> NDArray[np.float32]:
    device = default_device()
    network = build_network(config.backbone, examples.num_classes, config.seed, False).to(device)
    if config.training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
    return pooled_features(network, inputs, config, device)


def _probes_of(
    config: TrialConfig, examples: Examples, features_ND: NDArray[np.float32], folds: Iterable[Fold]
) -> dict[str, Probe]:
    probes, class_weights = {}, config.training.class_weights
    for positions in (np.arange(len(examples)), *(fold.train for fold in folds)):
        part, features = examples.take(positions), features_ND[positions]
        probes[probe_key(config, part)] = fit_probe(
            features, part.labels, part.num_classes, groups_N=part.groups, class_weights=class_weights
        )
    return probes
