"""Probes of a search: features are computed once, and every training finds the probe of its examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tuner.tiny import space_of
from trainables import probe
from trainables.config import TrialConfig
from trainables.data.folds import stratified_folds
from trainables.data.loading import load_train, source_key
from trainables.probe import PROBES
from trainables.trial import FoldTraining, reseeded, train_full
from tuner.cluster import probes
from tuner.cluster.probes import SharedProbes, fit_probes, probed, share_probes
from tuner.experiment.baselines import baseline_config
from tuner.resources.share import Share

SHARE = Share(1, 0, 1)
NUM_FOLDS = 3
SPACE = space_of(
    method={"name": "l2"},
    training__head_init={"choice": ["probe", "random"]},
    training__learning_rate={"log_uniform": [0.001, 0.1]},
    search__folds=NUM_FOLDS,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> dict[str, Any]:
    data = next(SPACE.boundary_configs()).data
    return {source_key(data): load_train(data)}


@pytest.fixture(autouse=True)
def no_probes() -> Iterator[None]:
    """The process knows no probe before a test, nor after it."""
    PROBES.clear()
    yield
    PROBES.clear()


@pytest.fixture
def extractions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of examples of each extraction of features, wherever it happens."""
    counted, extract = [], probe.pooled_features

    def counting(network: Any, inputs: Any, config: TrialConfig, device: torch.device) -> Any:
        counted.append(len(inputs))
        return extract(network, inputs, config, device)

    monkeypatch.setattr(probe, "pooled_features", counting)
    monkeypatch.setattr(probes, "pooled_features", counting)
    return counted


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> list[Share]:
    """Tasks run in this process; the share of each."""
    shares: list[Share] = []

    def as_completed(task: Any, jobs: Any, share: Share) -> Iterator[Any]:
        shares.append(share)
        return (task(*job) for job in jobs)

    monkeypatch.setattr(probes, "as_completed", as_completed)
    monkeypatch.setattr(probes, "put_shared", lambda value: value)
    return shares


def everything_that_starts_from_a_probe() -> list[TrialConfig]:
    return [*SPACE.boundary_configs(), baseline_config(SPACE, "linear_probe"), baseline_config(SPACE, "fine_tuning")]


def test_features_are_computed_once_a_search(
    images: dict[str, Any], extractions: list[int], without_ray: list[Share]
) -> None:
    configs = everything_that_starts_from_a_probe()
    (examples,) = images.values()
    found = share_probes(configs, images, SPACE.search, SHARE).probes
    assert extractions == [len(examples)]
    assert len(found) == NUM_FOLDS + 1
    PROBES.add(found)
    folds = stratified_folds(examples.labels, NUM_FOLDS, SPACE.search.seed)
    for config in configs:
        for number, fold in enumerate(folds, start=1):
            FoldTraining(config, examples, number, fold, CPU)
        for seed in range(2):
            train_full(reseeded(baseline_config(SPACE, "linear_probe"), seed), examples, CPU)
    assert (extractions, PROBES.misses) == ([len(examples)], 0)
    assert PROBES.hits > 0


def test_they_are_those_that_a_training_computes_itself(images: dict[str, Any]) -> None:
    config = baseline_config(SPACE, "linear_probe")
    (examples,) = images.values()
    shared = fit_probes([config], images, SPACE.search, SHARE).probes
    fold = stratified_folds(examples.labels, NUM_FOLDS, config.seed)[1]
    part = examples.take(fold.train)
    training = FoldTraining(config, examples, 2, fold, CPU)
    own = PROBES.get(config, part, training.training.fit.method.student, CPU)
    assert PROBES.misses == 1
    of_search = shared[probe.probe_key(config, part)]
    np.testing.assert_allclose(of_search.weight, own.weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_search.bias, own.bias, rtol=1e-4, atol=1e-6)
    assert of_search.regularisation == own.regularisation


def test_only_what_starts_from_a_probe_of_pre_trained_features_has_one(images: dict[str, Any]) -> None:
    configs = list(SPACE.boundary_configs())
    assert {config.training.head_init for config in configs} == {"random", "probe"}
    assert [config.training.head_init for config in probed(configs, images)] == ["probe"]
    random = space_of(training__head_init="probe", backbone__pretrained=False)
    assert probed(random.boundary_configs(), images) == []


def test_another_view_of_the_data_has_probes_of_its_own(images: dict[str, Any]) -> None:
    space = space_of(method={"name": "l2"}, training__head_init="probe", data__size_px={"choice": [32, 48]})
    variants = [config.data for config in space.boundary_configs()]
    both = {source_key(data): load_train(data) for data in variants}
    assert [config.data.size_px for config in probed(space.boundary_configs(), both)] == [32, 48]


def test_where_no_head_starts_from_a_probe_there_is_no_task(images: dict[str, Any], without_ray: list[Share]) -> None:
    assert share_probes(space_of().boundary_configs(), images, SPACE.search, SHARE) == SharedProbes({})
    assert without_ray == []


def test_the_task_has_the_share_of_one_trial(images: dict[str, Any], without_ray: list[Share]) -> None:
    share_probes([baseline_config(SPACE, "linear_probe")], images, SPACE.search, Share(1, 0, 4))
    assert without_ray == [Share(1, 0, 1)]


class TestNearTwins:
    def test_are_counted_by_the_features_of_the_probes(
        self, images: dict[str, Any], extractions: list[int], without_ray: list[Share]
    ) -> None:
        configs = everything_that_starts_from_a_probe()
        (examples,) = images.values()
        found = share_probes(configs, images, SPACE.search, SHARE, counting_twins=True)
        assert extractions == [len(examples)]
        assert found.near_twins is not None
        assert found.near_twins.num_validated == len(examples)

    def test_are_counted_also_where_no_head_starts_from_a_probe(
        self, images: dict[str, Any], extractions: list[int], without_ray: list[Share]
    ) -> None:
        space = space_of(search__folds=NUM_FOLDS)
        found = share_probes(space.boundary_configs(), images, space.search, SHARE, counting_twins=True)
        (examples,) = images.values()
        assert (found.probes, extractions) == ({}, [len(examples)])
        assert found.near_twins is not None

    def test_an_image_that_is_there_twice_has_one(self, images: dict[str, Any]) -> None:
        (key,), (examples,) = images.keys(), images.values()
        config = baseline_config(SPACE, "linear_probe")
        once = fit_probes([], images, SPACE.search, SHARE, config).near_twins
        positions = np.tile(np.arange(len(examples)), 2)
        twice = fit_probes([], {key: examples.take(positions)}, SPACE.search, SHARE, config).near_twins
        grouped = replace(examples.take(positions), groups=positions)
        together = fit_probes([], {key: grouped}, SPACE.search, SHARE, config).near_twins
        assert once is not None
        assert twice is not None
        assert together is not None
        assert twice.num_with_twin > len(positions) / 2 > once.num_with_twin
        assert together.num_with_twin / 2 <= once.num_with_twin + 2

    def test_random_features_tell_none(self, images: dict[str, Any], without_ray: list[Share]) -> None:
        space = space_of(method={"name": "l2"}, backbone__pretrained=False)
        found = share_probes(space.boundary_configs(), images, space.search, SHARE, counting_twins=True)
        assert (found, without_ray) == (SharedProbes({}), [])
