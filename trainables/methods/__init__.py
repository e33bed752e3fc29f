"""Every method of fine-tuning that the service can search: one paper, one file, one line here."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any

from pydantic import Field

from trainables.backbones.network import TransferNetwork
from trainables.methods.base import Batches, Method, MethodConfig, MethodContext
from trainables.methods.l2 import L2
from trainables.methods.mixup import Mixup
from trainables.methods.smile import Smile

METHODS: dict[str, type[Method]] = {
    "l2": L2,
    "mixup": Mixup,
    "smile": Smile,
}

# The union of all their configurations, told apart by `name`. A type checker sees the base class.
_union: Any = functools.reduce(operator.or_, (method.Config for method in METHODS.values()))
AnyMethodConfig: Any = Annotated[_union, Field(discriminator="name")]


def build_method(config: MethodConfig, student: TransferNetwork, context: MethodContext) -> Method:
    """The method that `config` describes, at work on `student`."""
    return METHODS[config.name](config, student, context)


def uses_source_head(config: MethodConfig) -> bool:
    """Whether a student trained by `config` needs its pre-trained classifier."""
    return METHODS[config.name].uses_source_head(config)


__all__ = [
    "METHODS",
    "AnyMethodConfig",
    "Batches",
    "Method",
    "MethodConfig",
    "MethodContext",
    "build_method",
    "uses_source_head",
]
