"""Interface of all methods: named loss terms for a batch, and a few optional hooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from trainables.backbones.kept_networks import KeptNetworks
from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.frozen import Frozen
from trainables.methods.losses import CROSS_ENTROPY, TargetLoss
from trainables.types import Batch, CompileMode, LossTerms

Batches = Callable[[], Iterable[Batch]]
"""Function that starts a new pass over the training set without augmentation, each example once."""


class MethodConfig(Frozen):
    """Base of the methods' configurations; each has a literal `name`, by which a YAML file chooses it."""

    name: str

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        """Noun phrases for what the method needs and `backbone` lacks; empty if it can be trained.

        The source head is no part of it: `Method.uses_source_head` declares that.
        """
        return []


@dataclass(frozen=True)
class MethodContext:
    """Facts of the training that a method is part of.

    `seed` is the root of this run's random addresses; `num_steps` the whole budget in optimiser steps, so that
    schedules can be written as fractions of it; `num_examples` the size of the training set; `compile` how networks
    besides the student that run at every step may be compiled, as the student's backbone is; `target_loss` the
    cross-entropy of the target head, with the class weights and the label smoothing of the training; `kept` what the
    process keeps of earlier trainings, for the copies of the student that a method makes.
    """

    seed: int
    num_steps: int
    steps_per_epoch: int
    num_classes: int
    num_examples: int
    compile: CompileMode = "none"
    target_loss: TargetLoss = CROSS_ENTROPY
    kept: KeptNetworks = field(default_factory=KeptNetworks, compare=False)


class Method(ABC):
    """Base class of the fine-tuning methods: computes named, weighted loss terms of a batch.

    A method never steps an optimiser and never logs. What it minimises of the target head is `target_loss`, so that
    class weights and label smoothing are in every method. Subclasses are final; each names its configuration class as
    `Config`. If `uses_source_head` is false for a configuration, the student is built without its pre-trained
    classifier; if it is true, a backbone without one is refused before the training.
    """

    Config: ClassVar[type[MethodConfig]]
    num_views: ClassVar[int] = 1
    """Number of independent augmentations of each training image in a batch; with 2, `Batch.second_inputs` is set."""
    uses_forward_hooks: ClassVar[bool] = False
    """Whether `loss` registers forward hooks in the student. Compiled code ignores hooks that come and go."""
    draws_new_heads: ClassVar[bool] = False
    """Whether it replaces the target head while it trains, so that trainings do not share what the head started as."""
    needs_batch_statistics: ClassVar[bool] = False
    """Whether its own normalisation reads the statistics of the batch, which `batch_norm: frozen` has not."""
    is_recordable: ClassVar[bool] = False
    """Whether its steps can be recorded and replayed, as CUDA graphs: at steps with equal `step_key`, `loss` does the
    same operations, what it draws comes through `Batch.values`, and it reads nothing from the device."""
    config: MethodConfig

    def __init__(self, config: Any, student: TransferNetwork, context: MethodContext) -> None:
        self.config = config
        self.student = student
        self.context = context
        self.target_loss = context.target_loss
        self.diagnostics: dict[str, Tensor] = {}
        """Scalars of the latest batch that are logged like loss terms, but not minimised."""

    @classmethod
    def uses_source_head(cls, config: Any) -> bool:
        """Whether the student keeps its pre-trained classifier as source head for this configuration."""
        return False

    @abstractmethod
    def loss(self, batch: Batch) -> LossTerms:
        """Weighted loss terms of a batch: scalars with a graph to the student, with the same names at every step."""

    def prepare(self, batches: Batches) -> None:  # noqa: B027 - optional, not abstract
        """Runs once before the first step, for measurements on the training set."""

    def after_step(self, step: int) -> None:  # noqa: B027 - likewise
        """Runs after optimiser step `step` (from 1)."""

    def step_key(self, step: int) -> Hashable:
        """Which recording of `loss` a step can replay, where not all steps can replay the same."""
        return None

    def update_key(self, step: int) -> Hashable:
        """Which recording of `after_step` a step can replay. None: it is called, as it does nothing or draws."""
        return None

    def tensors_changed(self) -> None:  # noqa: B027 - likewise
        """Runs where tensors may have other values than the method knows of, to compute anew what follows from them."""

    def extra_modules(self) -> nn.ModuleDict:
        """Modules besides the student in the method's state; their parameters that require gradients are trained."""
        return nn.ModuleDict()

    @property
    def folded_norms(self) -> tuple[int, int]:
        """Number of BatchNorms that are folded in a teacher, and of all of them there; 0 and 0 without a teacher."""
        return 0, 0

    def state_dict(self) -> dict[str, Any]:
        """The state besides the student that the next step depends on."""
        return {"modules": self.extra_modules().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self.extra_modules().load_state_dict(state["modules"])

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of `extra_modules` that require gradients."""
        return (p for p in self.extra_modules().parameters() if p.requires_grad)
