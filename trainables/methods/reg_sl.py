"""RegSL: regularised self-labelling (Li and Zhang, NeurIPS 2021, https://arxiv.org/abs/2111.04578)."""

from __future__ import annotations

import copy
import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.methods.base import Method, MethodContext
from trainables.methods.losses import cross_entropy, full_precision
from trainables.methods.mixing import MixableConfig, mixed
from trainables.types import Batch, LossTerms

AUTHORS_EPOCHS = 30
"""Length of the authors' trainings, by which their epochs are fractions of the budget."""

BudgetFraction = Annotated[float, Field(ge=0, lt=1)]


class RegSLConfig(MixableConfig):
    """Defaults are the authors' for CUB (Frobenius norm, clean labels); theirs for other datasets are as good a start:
    Cars 1.334, 8.27, 3.48; Aircraft 1.183, 5.28, 1.28; Indoor 0.137, 6.41, 2.53 (distance, head, growth)."""

    name: Literal["reg_sl"] = "reg_sl"
    form: Literal["constraint", "penalty"] = "constraint"
    """`constraint`: weights are put back into their ball after every step. `penalty`: the distances are not radii but
    weights of the squared distances (with `inf_op`, of the distances) in the loss."""
    norm: Literal["frobenius", "inf_op"] = "frobenius"
    """`inf_op`: the largest sum of absolute values over an output channel."""
    distance: NonNegativeFloat = 0.204
    """D, how far each weight tensor may get from its pre-trained value, in the first two of the last four stages."""
    distance_growth: PositiveFloat = 4.74
    """s: the last stage but one may get as far as D·s, the last D·s²."""
    head_distance: NonNegativeFloat = 23.79
    """How far the target head's weights may get from zero."""

    correct_labels_from: BudgetFraction | None = None
    """Share of the budget after which confident predictions overwrite labels; None: never. The authors' is 0.3."""
    correction_threshold: Annotated[float, Field(gt=0, le=1)] = 0.9
    """A prediction is confident if its probability is higher."""
    reweight_from: BudgetFraction | None = None
    """Share of the budget after which examples of a small loss weigh more; None: never. The authors' is 0.133."""
    reweight_temperature: PositiveFloat = 1.0
    """τ of the weights softmax(−loss/τ) over the batch, at the start; see `temperature_at`."""

    @model_validator(mode="after")
    def _labels_of_mixed_images_stay(self) -> Self:
        if self.correct_labels_from is not None and self.mixing != "none":
            expected = (
                "correct_labels_from needs mixing: none (what is seen in a mixed image says nothing of one label)"
            )
            raise ValueError(f"{expected}, got mixing: {self.mixing}")
        return self

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        missing = [] if backbone.num_stages else ["stages, to hold each within its distance"]
        return missing + super().missing_in(backbone)

    def stage_distance(self, stage: int, num_stages: int) -> float:
        """Of stage `stage` (from 1): D·s^{0, 0, 1, 2} over the last four; stages before those are as the first."""
        return self.distance * self.distance_growth ** max(0, stage - num_stages + 2)

    def temperature_at(self, progress: float) -> float:
        """τ after the share `progress` of the budget: a tenth less an epoch of the authors', down to one half."""
        assert self.reweight_from is not None
        epochs = AUTHORS_EPOCHS * (progress - self.reweight_from)
        return self.reweight_temperature * max(0.5, math.exp(-0.1 * epochs))


class RegSL(Method):
    """Fine-tuning within a distance of the pre-trained weights that grows with depth, with optional label correction.

    After each optimiser step every matrix and kernel of the backbone's stages is drawn back towards its pre-trained
    value until it is within its stage's distance; each BatchNorm's scale γ/√(running variance) likewise, channel by
    channel; the target head towards zero. The stem, biases and β are free. The paper lets distances grow with every
    layer; its code, and we, with the last two stages.

    On request, for noisy labels: a label is overwritten for good when the network, as it sees the example in this step,
    is confident of another one; and an example's weight in the batch falls with its loss. Their code counts epochs, of
    which it has 30; here they are fractions of the budget, and the temperature falls by the step. Distance 0 holds a
    tensor at its pre-trained value, where theirs divides by zero.
    """

    Config = RegSLConfig
    config: RegSLConfig

    def __init__(self, config: RegSLConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.source = copy.deepcopy(student.backbone).requires_grad_(False).eval()
        self.balls = Balls(config, student, self.source)
        self.scales = Scales(config, student, self.source)
        self.labels = LabelStore(context.num_examples).to(student.target_head.weight.device)

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        logits = full_precision(self.student(inputs).target_logits)
        progress = (batch.step - 1) / self.context.num_steps
        if self.config.correct_labels_from is not None:
            if progress >= self.config.correct_labels_from:
                self.labels.correct(batch, logits.detach(), self.config.correction_threshold)
            targets = self.labels.of(batch)
            self.watched["corrected_labels"] = (targets != batch.labels).to(logits.dtype).mean()
        if self.config.reweight_from is not None and progress >= self.config.reweight_from:
            target_label = easy_first(logits, targets, self.config.temperature_at(progress))
        else:
            target_label = cross_entropy(logits, targets)
        if self.config.form == "penalty":
            return {"target_label": target_label, "distance": self.balls.penalty()}
        return {"target_label": target_label}

    def after_step(self, step: int) -> None:
        if self.config.form == "constraint":
            self.balls.project()
            self.scales.project()

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"source": self.source, "labels": self.labels})


def easy_first(logits_NK: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Σ_b w_b·ℓ_b with the constants w = softmax(−ℓ/temperature): examples of a small loss weigh more."""
    losses_N = F.cross_entropy(
        logits_NK, targets.to(logits_NK.dtype) if targets.ndim == 2 else targets, reduction="none"
    )
    return (losses_N.detach() / -temperature).softmax(dim=0).mul(losses_N).sum()


class Balls:
    """Every constrained weight, what it is held near, and its distance; all tensors are handled at once.

    A "row" is what has a norm of its own: with `frobenius` a tensor, with `inf_op` an output channel.
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
        """w⁰ + (w − w⁰)·min(1, distance/‖w − w⁰‖), in place; what is within its distance stays as it is, to the bit."""
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
    """The scale γ/√(running variance + 1e-6) of every BatchNorm in the stages, and how far each channel's may move.

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
        """γ such that the scale is within its distance; γ stays as it is, to the bit, where it was."""
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
    """γ and √(running variance + 1e-6) of all channels of all layers."""
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    return torch.cat([norm.weight for norm in norms]), (torch.cat(variances) + 1e-6).sqrt()


class LabelStore(nn.Module):
    """The label in force of every training example; −1 where it is still its own."""

    def __init__(self, num_examples: int) -> None:
        super().__init__()
        self.register_buffer("overwritten", torch.full((num_examples,), -1))
        self.overwritten: Tensor

    def of(self, batch: Batch) -> Tensor:
        """The labels of the batch that are in force."""
        stored = self.overwritten[batch.index]
        return torch.where(stored < 0, batch.labels, stored)

    def correct(self, batch: Batch, logits_NK: Tensor, threshold: float) -> None:
        """Overwrites the label of each example whose most probable class has more than `threshold`."""
        confidence, predicted = logits_NK.softmax(dim=1).max(dim=1)
        self.overwritten[batch.index] = torch.where(confidence > threshold, predicted, self.of(batch))
