"""Bi-Tuning: contrastive terms against queues of every class (Zhong et al., 2020, https://arxiv.org/abs/2011.06182)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.methods.base import Method, MethodConfig, MethodContext
from trainables.methods.losses import full_precision
from trainables.methods.teacher import ema_update, frozen_copy, scaled_decay
from trainables.seeding import torch_seeded
from trainables.types import Batch, LossTerms


class BiTuningConfig(MethodConfig):
    """Settings of Bi-Tuning. Defaults are those of the authors' code (in TLlib)."""

    name: Literal["bi_tuning"] = "bi_tuning"
    eta: NonNegativeFloat = 1.0
    """Weight of both contrastive terms."""
    temperature: PositiveFloat = 0.07
    """Temperature of both contrastive terms: similarities are divided by it."""
    queue_length: PositiveInt = 40
    """Number of keys kept for each class."""
    projection_dim: PositiveInt = 128
    """Number of dimensions that features are projected to for the projection term."""
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Decay of the key network at every step, for a training of `ema_reference_steps`."""
    ema_reference_steps: PositiveInt | None = 9000
    """Number of steps that `ema_decay` is for, as for SMILE: a training of another length uses the decay that leaves
    the same share of the pre-trained weights at the end. None uses `ema_decay` as it is."""

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        return [] if backbone.takes_images else ["images, to see each in two augmentations"]

    def decay_per_step(self, num_steps: int) -> float:
        """The decay per step in a training of `num_steps`."""
        return scaled_decay(self.ema_decay, self.ema_reference_steps, num_steps)


class BiTuning(Method):
    """Cross-entropy and two contrastive terms, against queues of earlier features of every class.

    The student is given one augmentation of an image, the key network (a moving average of the student) another. The
    features of the key network are the keys; a queue holds the latest keys of each class. The projection term contrasts
    the student's projected features with the projected keys; the classifier term contrasts the target head's weights of
    the image's class, held constant, with the student's features and the keys. Both are KL(uniform over the keys of the
    class ‖ softmax over all keys).

    As in the authors' code: keys are normalised by their batch's statistics (the key network is in training mode, with
    running statistics of its own); the keys of the batch itself enter the queues between the two terms, so that the
    second term has them twice. There, the projection learns at a tenth of the head's rate and the head's initial
    weights are smaller; here, the projection has the backbone's learning rate, and the head is initialised as for every
    method.
    """

    Config = BiTuningConfig
    config: BiTuningConfig
    is_recordable = True
    num_views: ClassVar[int] = 2

    def __init__(self, config: BiTuningConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.decay = config.decay_per_step(context.num_steps)
        if not config.eta:
            return
        device = student.target_head.weight.device
        num_features = student.backbone.num_features
        with torch_seeded(context.seed, "bi_tuning"):
            projector = nn.Linear(num_features, config.projection_dim).to(device)
            self.projector = context.kept.copy_of("projector", projector)  # with it, the optimiser's state is kept
            self.feature_queues = Queues(context.num_classes, config.queue_length, num_features + 1).to(device)
            self.projection_queues = Queues(context.num_classes, config.queue_length, config.projection_dim).to(device)
        self.query = nn.ModuleList([student.backbone, self.projector])
        self.key = frozen_copy(self.query, context.kept, "key").train()

    def loss(self, batch: Batch) -> LossTerms:
        outputs = self.student(self.student.embed(batch.inputs))
        terms = {"target_label": self.target_loss(outputs.target_logits, batch.labels)}
        if not self.config.eta:
            return terms
        features_ND, projections_ND = unit_vectors(outputs.pooled, self.projector)
        keys_ND, projected_keys_ND = self._keys(batch)
        head = self.student.target_head
        classes_KD = F.normalize(torch.cat([head.weight, head.bias[:, None]], dim=1).detach(), dim=1)
        own_class_ND = classes_KD[batch.labels]
        with torch.autocast(batch.labels.device.type, enabled=False):  # a bf16 product over 0.07 is off by several %
            projection = self._contrast(
                (projections_ND * projected_keys_ND).sum(dim=1),
                projections_ND
                @ self.projection_queues.keys_MD.T.clone(),  # a copy for the backward pass: enqueue overwrites the keys
                batch.labels,
            )
            self.projection_queues.enqueue(projected_keys_ND, batch.labels)
            self.feature_queues.enqueue(keys_ND, batch.labels)
            classifier = self._contrast(
                (features_ND * own_class_ND).sum(dim=1), own_class_ND @ self.feature_queues.keys_MD.T, batch.labels
            )
        return terms | {"projection": self.config.eta * projection, "classifier": self.config.eta * classifier}

    @torch.no_grad()
    def _keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Updates the key network; returns its unit features N×(D+1) and unit projections N×P of the second view."""
        assert batch.second_inputs is not None, "training_batch draws two views where a method's num_views is 2"
        ema_update(self.key, self.query, self.decay)
        backbone, projector = self.key
        _, pooled = backbone(self.student.embed(batch.second_inputs))
        return unit_vectors(pooled, projector)

    def _contrast(self, current_N: Tensor, queued_NM: Tensor, labels_N: Tensor) -> Tensor:
        """KL(uniform over the keys of the label's class ‖ softmax over all keys), mean over the batch.

        `current_N` and `queued_NM` are cosines with the image's own key, which is of its class, and with all queued
        keys.
        """
        rows = torch.arange(len(labels_N), device=labels_N.device)
        queued_NKL = queued_NM.view(len(rows), self.context.num_classes, self.config.queue_length)
        positive_N1L = torch.cat([current_N[:, None], queued_NKL[rows, labels_N]], dim=1) / self.config.temperature
        all_N1M = torch.cat([current_N[:, None], queued_NM], dim=1) / self.config.temperature
        return (all_N1M.logsumexp(dim=1) - positive_N1L.mean(dim=1)).mean() - math.log(positive_N1L.shape[1])

    def extra_modules(self) -> nn.ModuleDict:
        if not self.config.eta:
            return nn.ModuleDict()
        return nn.ModuleDict(
            {
                "projector": self.projector,
                "key": self.key,
                "feature_queues": self.feature_queues,
                "projection_queues": self.projection_queues,
            }
        )


def unit_vectors(pooled_ND: Tensor, projector: nn.Module) -> tuple[Tensor, Tensor]:
    """[features; 1] N×(D+1) and the projected features N×P, both with rows of length 1."""
    ones_N1 = pooled_ND.new_ones(len(pooled_ND), 1)
    features_ND = full_precision(torch.cat([pooled_ND, ones_N1], dim=1))
    return F.normalize(features_ND, dim=1), F.normalize(full_precision(projector(pooled_ND)), dim=1)


class Queues(nn.Module):
    """The latest `length` keys of each class, M = K·length rows; initially random unit vectors."""

    def __init__(self, num_classes: int, length: int, num_features: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("keys_MD", F.normalize(torch.randn(num_classes * length, num_features), dim=1))
        self.register_buffer("next_K", torch.zeros(num_classes, dtype=torch.int64))
        self.keys_MD: Tensor
        self.next_K: Tensor

    def enqueue(self, keys_ND: Tensor, labels_N: Tensor) -> None:
        """Replaces the oldest keys of each class, in the order of the batch."""
        same_NN = labels_N[:, None] == labels_N
        earlier_N = same_NN.tril(-1).sum(dim=1)  # of its class in the batch
        slots_N = labels_N * self.length + (self.next_K[labels_N] + earlier_N) % self.length
        # If a class has more keys than its queue has slots, the later ones stay: all rows of a slot write the last key.
        position_N = torch.arange(len(labels_N), device=labels_N.device)
        last_N = ((slots_N[:, None] == slots_N) * position_N).amax(dim=1)
        self.keys_MD[slots_N] = keys_ND[last_N]
        self.next_K.index_add_(0, labels_N, torch.ones_like(labels_N)).remainder_(self.length)
