"""One model of several trainings: mean weights where trainings share their start, else mean probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.backbones import build_network
from trainables.backbones.copying import clone
from trainables.backbones.network import TransferNetwork
from trainables.classifier import Classifier, save_classifier
from trainables.config import TrialConfig
from trainables.data.images import LabelledImages
from trainables.ensemble import (
    EnsembleNetwork,
    averages_weights,
    ensemble_and_test,
    ensemble_of,
    loss_barrier,
    with_mean_weights,
)

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cat")


def config_of(method: str = "l2", **training: Any) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "imagefolder", "size_px": 32},
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": {"name": method},
            "training": {"num_steps": 10, **training},
        }
    )


@pytest.fixture(scope="module")
def networks() -> list[TransferNetwork]:
    networks = [build_network(config_of().backbone, 3, seed, False) for seed in range(3)]
    with torch.no_grad():
        for shift, network in enumerate(networks):
            for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
                norm.weight.add_(0.01 * shift)
    return networks


@pytest.fixture
def stored() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (6, 37, 37, 3), dtype=np.uint8)


def test_mean_weights_are_the_means_of_every_tensor(networks: list[TransferNetwork]) -> None:
    mean = with_mean_weights(networks).state_dict()
    for name, tensor in mean.items():
        each = [network.state_dict()[name] for network in networks]
        if tensor.is_floating_point():
            expected = (each[0].double() + each[1].double() + each[2].double()) / 3
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(tensor, each[0])
    assert not torch.equal(mean["target_head.weight"], networks[0].target_head.weight), "the members stay as they are"


def test_mean_probabilities_are_those_of_the_members(
    networks: list[TransferNetwork], stored: np.ndarray[Any, Any]
) -> None:
    config = config_of()
    each = [Classifier(network, config, CLASSES, CPU).predict_proba(stored) for network in networks]
    together = Classifier(EnsembleNetwork(networks), config, CLASSES, CPU).predict_proba(stored)
    np.testing.assert_allclose(together, np.mean(each, axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_networks", [2, 3])
def test_an_ensemble_is_loaded_as_it_was_saved(
    networks: list[TransferNetwork], stored: np.ndarray[Any, Any], tmp_path: Path, num_networks: int
) -> None:
    config, ensemble = config_of(), EnsembleNetwork(networks[:num_networks])
    save_classifier(tmp_path, ensemble, config, CLASSES)
    expected = Classifier(ensemble, config, CLASSES, CPU).predict_proba(stored)
    np.testing.assert_allclose(Classifier.load(tmp_path, CPU).predict_proba(stored), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (config_of(head_init="probe", batch_norm="frozen"), True),
        (config_of(head_init="probe"), False),
        (config_of(batch_norm="frozen"), False),
        (config_of("rifle", head_init="probe", batch_norm="frozen"), False),
    ],
)
def test_weights_are_averaged_where_trainings_share_their_start(config: TrialConfig, expected: bool) -> None:
    assert averages_weights(config) is expected


def test_is_scored_on_the_test_split(networks: list[TransferNetwork], stored: np.ndarray[Any, Any]) -> None:
    config = config_of()
    test = LabelledImages.of(stored, np.array([0, 1, 2, 0, 1, 2]), CLASSES)
    result, ensemble, predictions = ensemble_and_test(config, networks, [0, 1, 4], test, test)
    predicted = Classifier(ensemble, config, CLASSES, CPU).predict_proba(stored).argmax(axis=1)  # type: ignore[arg-type]
    assert (result.mean_of, result.seeds) == ("probabilities", [0, 1, 4])
    assert result.test_top1 == pytest.approx(float((predicted == test.labels).mean()))
    assert predictions.metrics == result.metrics


def test_one_network_is_its_own_ensemble(networks: list[TransferNetwork], stored: np.ndarray[Any, Any]) -> None:
    train = LabelledImages.of(stored, np.array([0, 1, 2, 0, 1, 2]), CLASSES)
    assert ensemble_of(networks[:1], config_of(), train) is networks[0]


class TestLossBarrier:
    """Networks that lie in one convex region, as they differ in their heads alone, and networks that do not."""

    SAME_START = config_of(head_init="probe", batch_norm="frozen")

    @pytest.fixture
    def sure(self, networks: list[TransferNetwork]) -> TransferNetwork:
        """A network whose probabilities are near 0 and 1."""
        network = clone(networks[0])
        network.target_head.weight.data.mul_(1000)
        return network

    @pytest.fixture
    def fitted(self, sure: TransferNetwork, stored: np.ndarray[Any, Any]) -> LabelledImages:
        """Images with the classes that it predicts."""
        probabilities = Classifier(sure, self.SAME_START, CLASSES, CPU).predict_proba(stored)
        return LabelledImages.of(stored, probabilities.argmax(axis=1), CLASSES)

    def test_weights_are_averaged_in_one_convex_region(self, sure: TransferNetwork, fitted: LabelledImages) -> None:
        other = clone(sure)
        other.target_head.weight.data.mul_(0.5)
        assert loss_barrier(with_mean_weights([sure, other]), [sure, other], fitted, self.SAME_START) <= 0
        assert isinstance(ensemble_of([sure, other], self.SAME_START, fitted), TransferNetwork)

    def test_probabilities_are_averaged_across_a_barrier(self, sure: TransferNetwork, fitted: LabelledImages) -> None:
        """The other network is the same function, with its last features in reverse order."""
        other = clone(sure)
        *_, convolution = (module for module in other.backbone.modules() if isinstance(module, torch.nn.Conv2d))
        *_, norm = (module for module in other.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        for tensor in (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data.copy_(tensor.data.flip(0))
        other.target_head.weight.data.copy_(other.target_head.weight.data.flip(1))
        pair = [sure, other]
        assert loss_barrier(with_mean_weights(pair), pair, fitted, self.SAME_START) > 1
        ensemble = ensemble_of(pair, self.SAME_START, fitted)
        assert isinstance(ensemble, EnsembleNetwork)
        assert ensemble_and_test(self.SAME_START, pair, [0, 1], fitted, fitted)[0].test_top1 == 1
