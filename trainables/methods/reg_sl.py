"""RegSL: regularised self-labelling (Li and Zhang, NeurIPS 2021, https://arxiv.org/abs/2111.04578)."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.methods.base import Method, MethodContext
from trainables.methods.losses import CROSS_ENTROPY, TargetLoss, full_precision
from trainables.methods.mixing import MixableConfig, mixed
from trainables.methods.teacher import frozen_copy
from trainables.types import Batch, LossTerms

AUTHORS_EPOCHS = 30
"""Number of epochs of the authors' trainings, by which their epochs become fractions of the budget."""

BudgetFraction = Annotated[float, Field(ge=0, lt=1)]


class RegSLConfig(MixableConfig):
    """Settings of RegSL. Defaults are the authors' for CUB (Frobenius norm, clean labels). Theirs for other datasets:
    Cars 1.334, 8.27, 3.48; Aircraft 1.183, 5.28, 1.28; Indoor 0.137, 6.41, 2.53 (distance, head, growth)."""

    name: Literal["reg_sl"] = "reg_sl"
    form: Literal["constraint", "penalty"] = "constraint"
    """`constraint`: weights are projected onto their ball after every step. `penalty`: the distances are not radii but
    weights of the squared distances (with `inf_op`, of the distances) in the loss."""
    norm: Literal["frobenius", "inf_op"] = "frobenius"
    """Norm of the distance; `inf_op` is the largest sum of absolute values over an output channel."""
    distance: NonNegativeFloat = 0.204
    """D, largest distance of a weight tensor from its pre-trained value, in the first two of the last four stages."""
    distance_growth: PositiveFloat = 4.74
    """s: the distance is D·s in the last stage but one, and D·s² in the last."""
    head_distance: NonNegativeFloat = 23.79
    """Largest distance of the target head's weights from zero."""

    correct_labels_from: BudgetFraction | None = None
    """Share of the training after which confident predictions replace labels; None: never. The authors' is 0.3."""
    correction_threshold: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Probability above which a prediction replaces the label."""
    reweight_from: BudgetFraction | None = None
    """Share of the training after which examples are weighted by their loss; None: never. The authors' is 0.133."""
    reweight_temperature: PositiveFloat = 1.0
    """Initial τ of the weights softmax(−loss/τ) over the batch; see `temperature_at`."""

    @model_validator(mode="after")
    def _labels_of_mixed_images_stay(self) -> Self:
        if self.correct_labels_from is not None and self.mixing != "none":
            expected = "mixing: none with correct_labels_from (a mixed image has no label of its own to correct)"
            raise ValueError(f"{expected}, got mixing: {self.mixing}")
        return self

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        missing = [] if backbone.num_stages else ["stages, to hold each within its distance"]
        return missing + super().missing_in(backbone)

    def stage_distance(self, stage: int, num_stages: int) -> float:
        """Distance of stage `stage` (from 1): D·s^{0, 0, 1, 2} for the last four stages, and D for those before."""
        return self.distance * self.distance_growth ** max(0, stage - num_stages + 2)

    def temperature_at(self, progress: float) -> float:
        """τ after the share `progress` of the training: τ·max(½, e^{−0.1·epochs}), with the authors' 30 epochs."""
        assert self.reweight_from is not None
        epochs = AUTHORS_EPOCHS * (progress - self.reweight_from)
        return self.reweight_temperature * max(0.5, math.exp(-0.1 * epochs))


class RegSL(Method):
    """Fine-tuning within a distance of the pre-trained weights that grows with depth, with optional label correction.

    After each optimiser step every matrix and kernel of the backbone's stages is projected onto the ball around its
    pre-trained value with the radius of its stage, each BatchNorm's scale γ/√(running variance) likewise, channel by
    channel, and the target head onto a ball around zero. The stem, biases and BatchNorm's β are free. The distances of
    the paper grow with every layer; those of its code, and of this one, with the last two stages.

    Label correction and reweighting are optional, for noisy labels: a label is replaced for the rest of the training
    if the network predicts another class with more than `correction_threshold`, and the weight of an example in the
    batch decreases with its loss. The authors' code counts epochs, of which it has 30; here they are fractions of the
    training, and the temperature changes by the step. Distance 0 keeps a tensor at its pre-trained value; the authors'
    code divides by zero.
    """

    Config = RegSLConfig
    config: RegSLConfig
    is_recordable = True

    def __init__(self, config: RegSLConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.source = frozen_copy(student.backbone, context.kept, "source")
        self.balls = Balls(config, student, self.source)
        self.scales = Scales(config, student, self.source)
        self.labels = LabelStore(context.num_examples).to(student.target_head.weight.device)

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        logits = full_precision(self.student(inputs).target_logits)
        corrects, reweights = self.step_key(batch.step)
        if self.config.correct_labels_from is not None:
            if corrects:
                self.labels.correct(batch, logits.detach(), self.config.correction_threshold)
            targets = self.labels.of(batch)
            self.diagnostics["corrected_labels"] = (targets != batch.labels).to(logits.dtype).mean()
        if reweights:
            temperature = self._temperature(batch)
            target_label = reweighted_cross_entropy(logits, targets, temperature, self.target_loss)
        else:
            target_label = self.target_loss(logits, targets)
        if self.config.form == "penalty":
            return {"target_label": target_label, "distance": self.balls.penalty()}
        return {"target_label": target_label}

    def step_key(self, step: int) -> tuple[bool, bool]:
        """Whether labels are corrected at a step, and examples weighted."""
        starts = (self.config.correct_labels_from, self.config.reweight_from)
        first, second = (start is not None and self._progress(step) >= start for start in starts)
        return first, second

    def _progress(self, step: int) -> float:
        return (step - 1) / self.context.num_steps

    def _temperature(self, batch: Batch) -> float | Tensor:
        if batch.values is None:
            return self.config.temperature_at(self._progress(batch.step))
        return batch.values.tensor(lambda step: self.config.temperature_at(self._progress(step)))

    def update_key(self, step: int) -> Hashable:
        return "projection" if self.config.form == "constraint" else None

    def after_step(self, step: int) -> None:
        if self.config.form == "constraint":
            self.balls.project()
            self.scales.project()

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"source": self.source, "labels": self.labels})


def reweighted_cross_entropy(
    logits_NK: Tensor, targets: Tensor, temperature: float | Tensor, target_loss: TargetLoss = CROSS_ENTROPY
) -> Tensor:
    """Σ_b w_b·ℓ_b with ℓ the loss of each example and w = softmax(−ℓ/temperature), without gradient.

    `targets` are labels N or probabilities N×K. Class weights of `target_loss` are in ℓ but not in w, which would take
    back what a rare class is given.
    """
    losses_N = target_loss.of_each(logits_NK, targets)
    own_N = target_loss.without_weights().of_each(logits_NK.detach(), targets)
    return (own_N / -temperature).softmax(dim=0).mul(losses_N).sum()


class Balls:
    """The constrained weights with the centres and radii of their balls; all tensors are processed together.

    A row is the part of a tensor that has a radius: the whole tensor for `frobenius`, an output channel for `inf_op`.
    """

    def __init__(self, config: RegSLConfig, student: TransferNetwork, source: nn.Module) -> None:
        self.by_channel = config.norm == "inf_op"
        head = student.target_head.weight
        self.weights: list[Tensor] = [head]
        self.centres: list[Tensor] = [torch.zeros_like(head)]
        distances = [config.head_distance]
        backbone, num_stages = student.backbone, len(student.backbone.stages)
        for (name, weight), centre in zip(backbone.named_parameters(), source.parameters(), strict=True):
            stage = backbone.stage_index(name)
            # The penalty counts vectors too (a BatchNorm's γ), as the authors' code does.
            if stage and "bias" not in name and (weight.ndim > 1 or config.form == "penalty"):
                self.weights.append(weight)
                self.centres.append(centre)
                distances.append(config.stage_distance(stage, num_stages))
        self.num_rows = [len(weight) if self.by_channel else 1 for weight in self.weights]
        self.distances = head.new_tensor(distances)
        self.row_distances = self.distances.repeat_interleave(torch.tensor(self.num_rows, device=head.device))

    def penalty(self) -> Tensor:
        """Σ distance·‖w − w⁰‖²; with `inf_op`, Σ distance·‖w − w⁰‖ of the largest row."""
        if self.by_channel:
            gaps = [rows.max() for rows in self._norms()]
        else:
            pairs = zip(self.weights, self.centres, strict=True)
            gaps = [F.mse_loss(weight, centre, reduction="sum") for weight, centre in pairs]
        return torch.stack(gaps).mul(self.distances).sum()

    @torch.no_grad()
    def project(self) -> None:
        """Sets w ← w⁰ + (w − w⁰)·min(1, distance/‖w − w⁰‖) in place; rows within their distance stay as they are."""
        norms = torch.cat(self._norms())
        farthest = torch.maximum(norms, self.row_distances).clamp(min=torch.finfo(norms.dtype).tiny)
        back = torch.split(1 - self.row_distances / farthest, self.num_rows)
        shares = [share.view(-1, *[1] * (weight.ndim - 1)) for share, weight in zip(back, self.weights, strict=True)]
        torch._foreach_lerp_(self.weights, self.centres, shares)

    def _norms(self) -> list[Tensor]:
        """Norms of the rows of each w − w⁰."""
        moved = torch._foreach_sub(self.weights, self.centres)
        if self.by_channel:
            return [x.reshape(len(x), -1).abs().sum(dim=1) for x in moved]
        return [norm.view(1) for norm in torch._foreach_norm(moved)]


class Scales:
    """The scales γ/√(running variance + 1e-6) of every BatchNorm in the stages, and the distance of each channel.

    The 1e-6 is the authors' code's, not the layer's own ε.
    """

    def __init__(self, config: RegSLConfig, student: TransferNetwork, source: nn.Module) -> None:
        self.norms: list[nn.BatchNorm2d] = []
        self.sources: list[nn.BatchNorm2d] = []
        distances: list[float] = []
        backbone, num_stages = student.backbone, len(student.backbone.stages)
        for name, norm in backbone.named_modules():
            if isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats:
                stage = backbone.stage_index(f"{name}.weight")
                if stage:
                    self.norms.append(norm)
                    self.sources.append(source.get_submodule(name))  # type: ignore[arg-type]
                    distances += [config.stage_distance(stage, num_stages)] * norm.num_features
        self.distances = student.target_head.weight.new_tensor(distances)

    @torch.no_grad()
    def project(self) -> None:
        """Sets γ so that the scale is within its distance; a γ that was within it does not change by a bit."""
        if not self.norms:
            return
        weight, deviation = _weight_and_deviation(self.norms)
        source_weight, source_deviation = _weight_and_deviation(self.sources)
        centre = source_weight / source_deviation
        moved = weight / deviation - centre
        at_edge = (centre + moved.clamp(-self.distances, self.distances)) * deviation
        allowed = torch.where(moved.abs() > self.distances, at_edge, weight)
        sizes = [norm.num_features for norm in self.norms]
        torch._foreach_copy_([norm.weight for norm in self.norms], torch.split(allowed, sizes))


def _weight_and_deviation(norms: list[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
    """γ and √(running variance + 1e-6) of all channels of all layers, concatenated."""
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    return torch.cat([norm.weight for norm in norms]), (torch.cat(variances) + 1e-6).sqrt()


class LabelStore(nn.Module):
    """The corrected label of every training example; −1 for those with their original label."""

    def __init__(self, num_examples: int) -> None:
        super().__init__()
        self.register_buffer("overwritten", torch.full((num_examples,), -1))
        self.overwritten: Tensor

    def of(self, batch: Batch) -> Tensor:
        """The labels N of the batch, corrected if a correction is stored."""
        stored = self.overwritten[batch.index]
        return torch.where(stored < 0, batch.labels, stored)

    def correct(self, batch: Batch, logits_NK: Tensor, threshold: float) -> None:
        """Replaces the label of each example whose most probable class has a probability above `threshold`."""
        confidence, predicted = logits_NK.softmax(dim=1).max(dim=1)
        self.overwritten[batch.index] = torch.where(confidence > threshold, predicted, self.of(batch))
