"""Interface of the model libraries: a blank model, its published weights, and the cut before its classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.backbones.copying import Cloner
from trainables.backbones.network import Backbone
from trainables.seeding import torch_seeded

State = dict[str, Tensor]


class Parts(NamedTuple):
    """A model cut before its classifier. `source_head` is None if the model has no classifier."""

    backbone: Backbone
    source_head: nn.Linear | None


class Architecture(ABC):
    """A named architecture and the source of its published weights.

    `classifier` is the module name of the classifier within the whole model, "" if it has none. `auxiliary` are name
    prefixes of the parts that only pre-training uses, which a checkpoint need not have.
    """

    classifier: str
    auxiliary: tuple[str, ...] = ()

    @abstractmethod
    def blank(self, num_classes: int | None = None) -> nn.Module:
        """Builds the whole model with random weights from torch's global generator.

        `num_classes` None: the number of classes of the published weights.
        """

    @abstractmethod
    def published(self) -> nn.Module:
        """Builds the whole model with its published weights. Raises BadInput if they cannot be downloaded."""

    @abstractmethod
    def require_published(self) -> None:
        """Raises BadInput unless the published weights are on this machine or can be downloaded."""

    @abstractmethod
    def cut(self, model: nn.Module) -> Parts:
        """Cuts a whole model of this architecture before its classifier. The parts are its own modules, not copies."""

    def rename(self, state: State) -> State:
        """Renames the tensors of older files to the names of this architecture; by default none."""
        return state


def blank_on_meta(architecture: Architecture, num_classes: int | None = None) -> nn.Module:
    """Builds the whole model on the meta device, to compare names and shapes without memory.

    Each call returns another copy, of a model that is built once: a check of an experiment asks for seven.
    """
    return _meta_cloner(architecture, num_classes).copy()


@lru_cache(maxsize=8)
def _meta_cloner(architecture: Architecture, num_classes: int | None) -> Cloner[nn.Module]:
    return Cloner(on_meta(lambda: architecture.blank(num_classes)))


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Calls `build` on the meta device, and leaves torch's global generator as it was."""
    with torch_seeded(0, "backbone"):
        try:
            with torch.device("meta"):
                return build()
        except NotImplementedError:  # it computes its layers' sizes with tensors, which meta tensors cannot (RegNet)
            return build().to("meta")
