"""The `training` section of an experiment: budget, optimiser, schedule and precision."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from trainables.frozen import Frozen
from trainables.types import CompileMode


class TrainingConfig(Frozen):
    """Settings of the training loop. Defaults are those of the SMILE paper (§4.0.2), or else of its authors' code."""

    num_steps: PositiveInt = 9000
    """Number of optimiser steps of one training, e.g. of one fold."""
    batch_size: PositiveInt = 48
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: PositiveFloat = 0.01
    head_lr_multiplier: PositiveFloat = 1.0
    """Learning rate of the target head relative to the backbone's."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of every trained parameter, BatchNorm's and biases included, as in the authors' code."""
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    step_drop_at: Annotated[float, Field(gt=0, le=1)] = 2 / 3
    """Share of the training after which the schedule `step` multiplies the learning rate by `step_drop_factor`."""
    step_drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training over which the learning rate increases linearly from zero."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of forward passes; `bf16` is by autocast, with losses and weights in fp32."""
    channels_last: bool = True
    """Whether images and convolutions are in channels-last memory format."""
    compile: CompileMode = "none"
    """Mode of `torch.compile` for the networks of a training step; `reduce-overhead` replays CUDA graphs. A worker
    compiles once for all trials, in half a minute to minutes. Dropout draws other numbers than without. On the CPU
    there is no gain; see docs/decisions/0023."""
    eval_batch_size: PositiveInt = 128
    """Number of examples in a batch of an evaluation."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("momentum > 0 with nesterov: true (or nesterov: false), got momentum=0")
        return self
