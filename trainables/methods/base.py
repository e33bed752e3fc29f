"""What every method is: named loss terms for a batch, and at most three optional hooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.frozen import Frozen
from trainables.types import Batch, CompileMode, LossTerms

Batches = Callable[[], Iterable[Batch]]
"""One pass over the training set in the evaluation view (no augmentation), each example once, anew at each call."""


class MethodConfig(Frozen):
    """Base of the methods' configurations; each has a literal `name`, by which a YAML file chooses it."""

    name: str

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        """What the method needs and `backbone` lacks, in words; refused before anything runs. A source head does not
        belong here: `Method.uses_source_head` asks for it."""
        return []


@dataclass(frozen=True)
class MethodContext:
    """What a method may know of the training that it is part of.

    `seed` is the root of this run's random addresses; `num_steps` the whole budget in optimiser steps, so that
    schedules can be written as fractions of it; `num_examples` the size of the training set; `compile` how networks
    besides the student that run at every step may be compiled, as the student's backbone is.
    """

    seed: int
    num_steps: int
    steps_per_epoch: int
    num_classes: int
    num_examples: int
    compile: CompileMode = "none"


class Method(ABC):
    """A way to fine-tune: turns a batch into named, weighted loss terms. Never steps an optimiser or logs.

    Subclasses are final; each names its configuration class as `Config`. `uses_source_head` says whether the student
    needs the pre-trained classifier for this configuration; where not, the network is built without one, and where it
    does, a backbone that has none is refused beforehand.
    """

    Config: ClassVar[type[MethodConfig]]
    num_views: ClassVar[int] = 1
    """Independent augmentations of each training image that a batch brings; with 2, `Batch.second_inputs` is there."""
    looks_inside: ClassVar[bool] = False
    """Whether `loss` hooks into the student's inner modules. Compiled code does not see hooks that come and go."""
    config: MethodConfig

    def __init__(self, config: Any, student: TransferNetwork, context: MethodContext) -> None:
        self.config = config
        self.student = student
        self.context = context
        self.watched: dict[str, Tensor] = {}
        """Scalars of the latest batch worth a curve beside the loss terms, but not minimised."""

    @classmethod
    def uses_source_head(cls, config: Any) -> bool:
        """Whether the student must keep its pre-trained classifier as source head."""
        return False

    @abstractmethod
    def loss(self, batch: Batch) -> LossTerms:
        """The weighted terms of this batch's loss: scalars with a graph to the student, named alike at every step."""

    def prepare(self, batches: Batches) -> None:  # noqa: B027 - optional, not abstract
        """Runs once before the first step; for what must be measured on the training set first."""

    def after_step(self, step: int) -> None:  # noqa: B027 - likewise
        """Runs after optimiser step `step` (from 1)."""

    def extra_modules(self) -> nn.ModuleDict:
        """Modules besides the student that belong to the method's state; those that require gradients are trained."""
        return nn.ModuleDict()

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the student that the next step depends on."""
        return {"modules": self.extra_modules().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that `state_dict` gave."""
        self.extra_modules().load_state_dict(state["modules"])

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of `extra_modules` that the optimiser must see."""
        return (p for p in self.extra_modules().parameters() if p.requires_grad)
