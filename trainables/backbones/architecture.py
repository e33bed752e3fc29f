"""What every source of networks offers: a blank model, its published weights, and the cut into backbone and head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.backbones.network import Backbone
from trainables.seeding import torch_seeded

State = dict[str, Tensor]


class Parts(NamedTuple):
    """A model cut before its classifier. `source_head` is None where the model has no classifier."""

    backbone: Backbone
    source_head: nn.Linear | None


class Architecture(ABC):
    """A named architecture and where its published weights lie.

    `classifier` is the module name of the classifier within the whole model, "" where it has none. `auxiliary` are name
    prefixes of parts that only serve pre-training: a checkpoint may leave them out.
    """

    classifier: str
    auxiliary: tuple[str, ...] = ()

    @abstractmethod
    def blank(self, num_classes: int | None = None) -> nn.Module:
        """The whole model with random weights from torch's global generator; None: the published number of classes."""

    @abstractmethod
    def published(self) -> nn.Module:
        """The whole model with its published weights, downloaded where needed. Raises BadInput."""

    @abstractmethod
    def require_published(self) -> None:
        """Raises BadInput unless the published weights are on this machine or can be reached."""

    @abstractmethod
    def cut(self, model: nn.Module) -> Parts:
        """Cuts a whole model of this architecture; takes its modules over, does not copy them."""

    def rename(self, state: State) -> State:
        """A hook for files whose tensors carry older names."""
        return state


def blank_on_meta(architecture: Architecture, num_classes: int | None = None) -> nn.Module:
    """The whole model with shapes but no memory: enough to compare names and shapes."""
    return on_meta(lambda: architecture.blank(num_classes))


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` builds, without memory, and without a trace in torch's global generator."""
    with torch_seeded(0, "backbone"):
        try:
            with torch.device("meta"):
                return build()
        except NotImplementedError:  # it computes its layers' sizes with tensors, which meta tensors cannot (RegNet)
            return build().to("meta")
