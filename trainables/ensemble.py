"""Ensembles: one model of several trainings of a configuration, which differ in their seeds.

Networks that were fine-tuned from the same weights and the same head stay close to each other, and the mean of their
weights is one network that is better than each of them on average (Wortsman et al., 2022,
https://arxiv.org/abs/2203.05482). Where a high learning rate or many steps took them apart, or their heads were drawn
at random, it is worse than each: there is a barrier of the loss between them. Then the mean of their probabilities is
taken, which costs a forward pass of each.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.backbones.copying import clone
from trainables.backbones.network import Backbone, TransferNetwork
from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.sampling import draw_images
from trainables.device import default_device
from trainables.methods import METHODS
from trainables.metrics import log_loss
from trainables.predictions import Predictions
from trainables.results import EnsembleResult
from trainables.trial import predictions_on
from trainables.types import Outputs

MAX_BARRIER_EXAMPLES = 256
"""Training examples on which the loss of mean weights is compared with that of the networks."""
MAX_BARRIER = 0.01
"""Barrier of the loss, in nats, up to which weights are averaged: networks of one convex region differ by less, and the
barrier between others was 0.07 and more (decision 48)."""


class EnsembleNetwork(nn.Module):
    """Several networks of one architecture; its logits are the logarithms of their mean probabilities."""

    def __init__(self, networks: Sequence[TransferNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    @property
    def backbone(self) -> Backbone:
        """Backbone of the first network, whose tokenizer and normalisation of inputs are those of all."""
        first = self.networks[0]
        assert isinstance(first, TransferNetwork)
        return first.backbone

    def embed(self, inputs: Tensor) -> Tensor:
        """Returns the raw inputs: each network embeds them by itself, as its embedding may be trained."""
        return inputs

    def forward(self, inputs: Tensor) -> Outputs:
        outputs = [self._outputs_of(network, inputs) for network in self.networks]
        log_shares = torch.stack([each.target_logits.float().log_softmax(dim=1) for each in outputs])
        log_mean = log_shares.logsumexp(dim=0) - torch.tensor(len(outputs), device=inputs.device).log()
        return Outputs(outputs[0].features, outputs[0].pooled, log_mean, None)

    def _outputs_of(self, network: nn.Module, inputs: Tensor) -> Outputs:
        assert isinstance(network, TransferNetwork)
        outputs: Outputs = network(network.embed(inputs))
        return outputs


def averages_weights(config: TrialConfig) -> bool:
    """Whether networks of `config` start from one head, and normalise by the same statistics, so that the mean of their
    weights may be a network as good as they are.

    >>> averages_weights(TrialConfig.model_validate({
    ...     "data": {"dataset": "digits"}, "backbone": {"name": "timm/resnet18"}, "method": {"name": "l2"},
    ...     "training": {"head_init": "probe", "batch_norm": "frozen"},
    ... }))
    True
    """
    training = config.training
    same_start = training.head_init == "probe" and not METHODS[config.method.name].draws_new_heads
    return same_start and training.batch_norm == "frozen" and config.backbone.pretrained


@torch.no_grad()
def with_mean_weights(networks: Sequence[TransferNetwork]) -> TransferNetwork:
    """A network whose floating-point parameters and buffers are the means of those of `networks`, computed in double
    precision; other buffers are those of the first."""
    mean = clone(networks[0])
    states = [network.state_dict() for network in networks]
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))
    return mean


def loss_barrier(
    mean: TransferNetwork, networks: Sequence[TransferNetwork], train: Examples, config: TrialConfig
) -> float:
    """Cross-entropy of `mean` on at most `MAX_BARRIER_EXAMPLES` of `train`, less the mean of the networks', in nats.

    At most zero, but for rounding, where the networks lie in one convex region of the loss (linear mode connectivity:
    Frankle et al., 2020, https://arxiv.org/abs/1912.05671). All see the same stratified draw, as in evaluation.
    """
    count = min(len(train.labels), MAX_BARRIER_EXAMPLES)
    drawn = train.take(draw_images(train.labels, count, "stratified", config.seed, "loss_barrier"))
    device = default_device()

    def loss(network: TransferNetwork) -> float:
        predictions = predictions_on(network.to(device), drawn, config, device)
        return log_loss(predictions.probabilities, predictions.labels)

    return loss(mean) - statistics.fmean(map(loss, networks))


def ensemble_of(
    networks: Sequence[TransferNetwork], config: TrialConfig, train: Examples
) -> TransferNetwork | EnsembleNetwork:
    """The ensemble of networks that were trained by `config` on `train`: the mean of their weights where no barrier of
    the loss lies between them, else of their probabilities; of a single network, the network itself."""
    if len(networks) == 1:
        return networks[0]
    if averages_weights(config):
        mean = with_mean_weights(networks)
        if loss_barrier(mean, networks, train, config) <= MAX_BARRIER:
            return mean
    return EnsembleNetwork(networks)


def ensemble_and_test(
    config: TrialConfig, networks: Sequence[TransferNetwork], seeds: Sequence[int], train: Examples, test: Examples
) -> tuple[EnsembleResult, TransferNetwork | EnsembleNetwork, Predictions]:
    """Makes the ensemble of networks that were trained on `train` with `seeds`, and scores it on `test`, here."""
    device, started_s = default_device(), time.monotonic()
    ensemble = ensemble_of(networks, config, train).to(device)
    predictions = predictions_on(ensemble, test, config, device)
    mean_of: Literal["weights", "probabilities"] = (
        "probabilities" if isinstance(ensemble, EnsembleNetwork) else "weights"
    )
    seconds = time.monotonic() - started_s
    result = EnsembleResult(mean_of, list(seeds), predictions.top1, seconds, predictions.metrics)
    return result, ensemble, predictions
