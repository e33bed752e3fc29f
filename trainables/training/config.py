"""The `training` section of an experiment: budget, optimiser, schedule and precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainables.data.batches import steps_per_epoch
from trainables.frozen import Frozen
from trainables.precision import Precision
from trainables.types import CompileMode

PAPER_NUM_STEPS = 9000
"""Optimiser steps of the SMILE paper's trainings, where neither `num_steps` nor `num_epochs` is given."""


class TrainingConfig(Frozen):
    """Settings of the training loop. Defaults are those of the SMILE paper (§4.0.2), or else of its authors' code."""

    head_init: Literal["random", "probe"] = "random"
    """Initial target head: `random`, or `probe`, the logistic regression on the features of the pre-trained network
    (linear probing, then fine-tuning: Kumar et al., 2022, https://arxiv.org/abs/2202.10054)."""
    num_steps: NonNegativeInt | None = None
    """Number of optimiser steps of one training, e.g. of one fold: 9,000 if `num_epochs` is not given, either. 0 trains
    nothing: with `head_init: probe` the network is the linear probe."""
    num_epochs: PositiveFloat | None = None
    """Number of passes over the training examples, instead of `num_steps`: the steps then follow from their number."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the cross-entropy of the target head: `balanced` weighs the examples of a class by
    N/(K·n), n of them of N training examples in K classes, so that all classes count the same; of a probe, too."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target of that cross-entropy which is spread over all classes."""
    batch_size: PositiveInt = 48
    """Number of training examples in a batch."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimiser: SGD with `momentum` and `nesterov`, or AdamW."""
    learning_rate: PositiveFloat = 0.01
    """Learning rate of the backbone, before the schedule."""
    head_lr_multiplier: PositiveFloat = 1.0
    """Learning rate of the target head relative to the backbone's."""
    batch_norm: Literal["train", "frozen"] = "train"
    """Whether BatchNorm normalises by the batch and updates its running statistics, or keeps the pre-trained ones and
    normalises by them, in all networks of the training. Scale and shift are trained either way. `frozen` works at a
    tenth of the learning rate that `train` does, and costs less; `stoch_norm` refuses it. See docs/decisions/0031."""
    max_grad_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all trained parameters together; a longer one is scaled down to it."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Whether the momentum of SGD is Nesterov's."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of every trained parameter, BatchNorm's and biases included, as in the authors' code."""
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    """Course of the learning rate over the training: one drop (`step`), to zero (`cosine`, `linear`), or none."""
    step_drop_at: Annotated[float, Field(gt=0, le=1)] = 2 / 3
    """Share of the training after which the schedule `step` multiplies the learning rate by `step_drop_factor`."""
    step_drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor by which the schedule `step` multiplies the learning rate at its drop."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training over which the learning rate increases linearly from zero."""
    precision: Precision = "auto"
    """Precision of forward passes; `bf16` and `fp16` are by autocast, with losses and weights in fp32, and `fp16`
    scales the loss. `fp32` is TF32 on GPUs that have it. `auto` is decided once for all workers: `bf16` where every GPU
    multiplies it, `fp16` where every GPU has tensor cores (compute capability 7), else `fp32`, as on CPUs."""
    deterministic: bool = False
    """Whether a GPU computes with deterministic kernels alone, so that two runs with `search.concurrency: 1`, and a
    resumed training, are equal to the bit. It is slower, and an operation without such a kernel is an error. CPUs are
    always deterministic."""
    channels_last: bool = True
    """Whether images and convolutions are in channels-last memory format."""
    compile: CompileMode = "none"
    """Mode of `torch.compile` for the networks of a training step; `reduce-overhead` replays CUDA graphs. A worker
    compiles once for all trials, in half a minute to minutes. Dropout draws other numbers than without. On the CPU
    there is no gain; see docs/decisions/0023."""
    cuda_graphs: bool = False
    """Whether a GPU replays the training step as one recorded CUDA graph, instead of launching its kernels one by one.
    Where a step cannot be recorded (on a CPU, with `compile`, or a method that reads from the GPU), that is logged, and
    steps are computed as without. See docs/decisions/0062."""
    eval_batch_size: PositiveInt = 128
    """Number of examples in a batch of an evaluation."""

    @model_validator(mode="before")
    @classmethod
    def _default_length(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("num_steps") is None and given.get("num_epochs") is None:
            return {**given, "num_steps": PAPER_NUM_STEPS}
        return given

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.num_steps is not None and self.num_epochs is not None:
            raise ValueError(f"num_steps: null beside num_epochs, got num_steps: {self.num_steps}")
        return self

    @field_validator("num_steps")
    @classmethod
    def _none_only_of_a_probe(cls, num_steps: int | None, before: ValidationInfo) -> int | None:
        if num_steps == 0 and before.data.get("head_init") != "probe":  # missing where it was refused itself
            raise ValueError("a number above 0 (0 with head_init: probe alone), got 0")
        return num_steps

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("momentum > 0 with nesterov: true (or nesterov: false), got momentum=0")
        return self

    @property
    def resolved_num_steps(self) -> int:
        """`num_steps` of a configuration that `resolved` returned, or that never had `num_epochs`."""
        assert self.num_steps is not None, "the number of steps depends on the number of examples; see num_steps_of"
        return self.num_steps

    def resolved(self, steps_per_epoch: int) -> TrainingConfig:
        """The same settings with their length in `num_steps`, for a training set of so many batches.

        >>> TrainingConfig(num_epochs=2.5).resolved(steps_per_epoch=10).num_steps
        25
        """
        if self.num_epochs is None:
            return self
        num_steps = max(1, round(self.num_epochs * steps_per_epoch))
        return self.model_copy(update={"num_steps": num_steps, "num_epochs": None})


def num_steps_of(config: TrainingConfig, num_examples: int) -> int:
    """Number of optimiser steps of a training of `config` on `num_examples`, those of a fold's training part.

    >>> num_steps_of(TrainingConfig(num_epochs=3, batch_size=16), num_examples=100)
    18
    """
    return config.resolved(steps_per_epoch(num_examples, config.batch_size)).resolved_num_steps
