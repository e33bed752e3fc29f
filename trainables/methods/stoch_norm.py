"""StochNorm (Kou et al., NeurIPS 2020, "Stochastic Normalization")."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.methods.base import Method, MethodContext
from trainables.methods.mixing import MixableConfig, mixed
from trainables.seeding import rng_for
from trainables.types import Batch, LossTerms


class StochNormConfig(MixableConfig):
    """Settings of StochNorm. The default is that of the authors' code."""

    name: Literal["stoch_norm"] = "stoch_norm"
    p: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that a channel is normalised by the batch statistics; 1 is plain fine-tuning."""

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        missing = [] if backbone.has_batch_norm else ["at least one BatchNorm2d layer, to make it stochastic"]
        return missing + super().missing_in(backbone)


class StochNorm(Method):
    """Stochastic normalisation: each channel by the statistics of the batch or by the running ones, at random.

    One Bernoulli draw for each channel and step, shared by the batch. The running statistics start pre-trained and are
    updated as in BatchNorm, whatever was drawn, after they were used. Evaluation and the names of all tensors are those
    of BatchNorm: a trained state loads into an unconverted network. With p = 1 the method equals plain fine-tuning to
    the bit.

    The authors' code draws from NumPy's global generator and drops `num_batches_tracked`; TLlib's ignores p.
    """

    needs_batch_statistics = True
    Config = StochNormConfig
    config: StochNormConfig
    is_recordable = True

    def __init__(self, config: StochNormConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.norms = make_stochastic(student.backbone)
        self.num_channels = [norm.num_features for norm in self.norms]

    def loss(self, batch: Batch) -> LossTerms:
        self._draw(batch)
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        return {"target_label": self.target_loss(self.student(inputs).target_logits, targets)}

    def _draw(self, batch: Batch) -> None:
        """Draws for all layers at once, with one copy to the device a step."""

        def draw(step: int) -> NDArray[np.bool_]:
            draws = rng_for(self.context.seed, "stoch_norm", step).random(sum(self.num_channels))
            return np.less(draws, self.config.p)

        if batch.values is None:
            by_batch = torch.from_numpy(draw(batch.step)).to(batch.labels.device, non_blocking=True)
        else:
            by_batch = batch.values.tensor(draw)
        for norm, by_batch_C in zip(self.norms, torch.split(by_batch, self.num_channels), strict=True):
            norm.by_batch_C = by_batch_C


class StochNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that uses the batch statistics only for the channels in the mask `by_batch_C`.

    It shares the tensors of `norm`. The activation and dropout of timm's BatchNormAct2d are applied as well.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(norm.__dict__)  # parameters, buffers, activation and settings are the very same
        self.by_batch_C: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            assert self.by_batch_C is not None, "StochNorm.loss draws before each forward pass"
            running = self._running_statistics()
            x = _Normalised.apply(x, self.weight, self.bias, self.by_batch_C, *running, self._momentum(), self.eps)
        else:
            x = super().forward(x)
        for then in self.children():  # of timm's: dropout and activation
            x = then(x)
        return x

    def _running_statistics(self) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var

    def _momentum(self) -> float:
        """Momentum of the running statistics at this step, as in BatchNorm2d."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum


class _Normalised(torch.autograd.Function):
    """Batch normalisation with a choice of statistics for each channel, in little more than the time of BatchNorm.

    The two normalisations differ by an affine function for each channel, so one forward pass of BatchNorm is enough.
    Its backward pass is right for all gradients but that of the input in channels normalised by running statistics,
    which do not depend on the input. Updates the running statistics.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        by_batch_C: Tensor,
        running_mean_C: Tensor,
        running_var_C: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        before_C, inverse_before_C = running_mean_C.clone(), (running_var_C + eps).rsqrt()  # of before they move
        y, mean_C, inverse_C = torch.native_batch_norm(
            x, weight_C, bias_C, running_mean_C, running_var_C, True, momentum, eps
        )
        used_mean_C = torch.where(by_batch_C, mean_C, before_C.to(mean_C.dtype))
        used_inverse_C = torch.where(by_batch_C, inverse_C, inverse_before_C.to(inverse_C.dtype))
        ratio_C = used_inverse_C / inverse_C  # exactly 1 for channels by the batch, for which the shift is exactly 0
        shift_C = (mean_C - used_mean_C) * used_inverse_C
        if weight_C is not None:
            shift_C = shift_C * weight_C
        if bias_C is not None:
            shift_C = shift_C + bias_C * (1 - ratio_C)
        ctx.save_for_backward(x, weight_C, by_batch_C, used_mean_C, used_inverse_C)
        ctx.eps = eps
        return torch.addcmul(_as_channels(shift_C, y), y, _as_channels(ratio_C, y))

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, by_batch_C, used_mean_C, used_inverse_C = ctx.saved_tensors
        asked = [ctx.needs_input_grad[0], weight_C is not None, weight_C is not None]
        grad_x, grad_weight_C, grad_bias_C = torch.ops.aten.native_batch_norm_backward(
            grad_y, x, weight_C, None, None, used_mean_C, used_inverse_C, True, ctx.eps, asked
        )
        if asked[0]:
            scale_C = used_inverse_C if weight_C is None else used_inverse_C * weight_C
            through_running = grad_y * _as_channels(scale_C, grad_y)
            grad_x = torch.where(by_batch_C.view(-1, 1, 1), grad_x, through_running)
        return grad_x, grad_weight_C, grad_bias_C, None, None, None, None, None


def _as_channels(values_C: Tensor, like: Tensor) -> Tensor:
    return values_C.to(like.dtype).view(-1, 1, 1)


def make_stochastic(backbone: nn.Module) -> list[StochNorm2d]:
    """Replaces every BatchNorm2d with running statistics in place. Returns the new layers in order."""
    norms = {
        name: StochNorm2d(part)
        for name, part in backbone.named_modules(remove_duplicate=False)
        if isinstance(part, nn.BatchNorm2d) and part.track_running_stats
    }
    for name, norm in norms.items():
        backbone.set_submodule(name, norm)
    return list(norms.values())
