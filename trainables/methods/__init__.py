"""Registry of the fine-tuning methods: one paper, one file, one line here; and those of plugins."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

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
from trainables.registries import Registry
from trainables.summaries import first_sentence

METHODS: Registry[type[Method]] = Registry(
    "methods",
    {
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
    },
)


class MethodByName:
    """Annotation of a field of a pydantic model that holds the configuration of any method, told apart by `name`.

    Its union is made when a value is validated, not when the model is: by then there are the methods of plugins, too.
    """

    @staticmethod
    def union() -> Any:
        """Returns the union of the configurations of all methods, as the type of a field."""
        return _union_of(tuple(METHODS.values()))[0]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self._adapter().core_schema)

    def _validated(self, value: Any) -> Any:
        return self._adapter().validate_python(value)

    @staticmethod
    def _adapter() -> TypeAdapter[Any]:
        return _union_of(tuple(METHODS.values()))[1]


@functools.cache
def _union_of(methods: tuple[type[Method], ...]) -> tuple[Any, TypeAdapter[Any]]:
    configs: Any = functools.reduce(operator.or_, (method.Config for method in methods))
    union: Any = Annotated[configs, Field(discriminator="name")]
    return union, TypeAdapter(union)


AnyMethodConfig: Any = Annotated[MethodConfig, MethodByName()]
"""Type of the field `method`. A type checker sees the base class."""


def list_methods() -> dict[str, str]:
    """The methods by name, each with a one-line summary.

    >>> list_methods()["mixup"].startswith("Mixup")
    True
    """
    return {name: first_sentence(method) for name, method in METHODS.items()}


def build_method(config: MethodConfig, student: TransferNetwork, context: MethodContext) -> Method:
    """Builds the method that `config` describes for the network `student`, which it trains.

    >>> from trainables.backbones import BackboneConfig, build_network
    >>> backbone = BackboneConfig(name="package/efficientnet_lite0", pretrained=False)
    >>> student = build_network(backbone, num_classes=3, seed=0, keep_source_head=False)
    >>> context = MethodContext(seed=0, num_steps=10, steps_per_epoch=2, num_classes=3, num_examples=16)
    >>> type(build_method(METHODS["mixup"].Config(), student, context)).__name__
    'Mixup'
    """
    return METHODS[config.name](config, student, context)


def check_method(config: MethodConfig, backbone: BackboneFacts) -> None:
    """Raises BadInput if `backbone` lacks something that the method needs, weights aside (see `check_backbone`)."""
    problems = [
        Problem("name", f"a method for backbone {backbone}", f"{config.name}, which needs {need}")
        for need in config.missing_in(backbone)
    ]
    if problems:
        raise BadInput(problems)


def uses_source_head(config: MethodConfig) -> bool:
    """Whether the method of `config` needs the pre-trained classifier of the student as its source head."""
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
