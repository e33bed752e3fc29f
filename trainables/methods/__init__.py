"""Every method of fine-tuning that the service can search: one paper, one file, one line here."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any

from pydantic import Field

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.errors import BadInput, Problem
from trainables.methods.base import Batches, Method, MethodConfig, MethodContext
from trainables.methods.bi_tuning import BiTuning
from trainables.methods.bss import BSS
from trainables.methods.co_tuning import CoTuning
from trainables.methods.cutmix import CutMix
from trainables.methods.delta import Delta
from trainables.methods.feature_extraction import FeatureExtraction
from trainables.methods.l2 import L2
from trainables.methods.l2_sp import L2SP
from trainables.methods.manifold_mixup import ManifoldMixup
from trainables.methods.mixup import Mixup
from trainables.methods.reg_sl import RegSL
from trainables.methods.rifle import Rifle
from trainables.methods.smile import Smile
from trainables.methods.stoch_norm import StochNorm
from trainables.summaries import first_sentence

METHODS: dict[str, type[Method]] = {
    "l2": L2,
    "feature_extraction": FeatureExtraction,
    "l2_sp": L2SP,
    "delta": Delta,
    "bss": BSS,
    "rifle": Rifle,
    "mixup": Mixup,
    "cutmix": CutMix,
    "manifold_mixup": ManifoldMixup,
    "co_tuning": CoTuning,
    "bi_tuning": BiTuning,
    "reg_sl": RegSL,
    "stoch_norm": StochNorm,
    "smile": Smile,
}

# The union of all their configurations, told apart by `name`. A type checker sees the base class.
_union: Any = functools.reduce(operator.or_, (method.Config for method in METHODS.values()))
AnyMethodConfig: Any = Annotated[_union, Field(discriminator="name")]


def list_methods() -> dict[str, str]:
    """The methods by name, each with a one-line summary.

    >>> list_methods()["mixup"].startswith("Mixup")
    True
    """
    return {name: first_sentence(method) for name, method in METHODS.items()}


def build_method(config: MethodConfig, student: TransferNetwork, context: MethodContext) -> Method:
    """The method that `config` describes, at work on `student`."""
    return METHODS[config.name](config, student, context)


def check_method(config: MethodConfig, backbone: BackboneFacts) -> None:
    """Raises BadInput where `backbone` lacks something that the method needs. It knows nothing of weights."""
    problems = [
        Problem("name", f"{config.name} needs {need}", f"backbone {backbone}") for need in config.missing_in(backbone)
    ]
    if problems:
        raise BadInput(problems)


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
    "check_method",
    "list_methods",
    "uses_source_head",
]
