"""Registry of the backbones, and the network of a `backbone` section."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import timm
from torch import nn

from trainables.backbones.architecture import Architecture, Parts, blank_on_meta
from trainables.backbones.bert import PACKAGED_TEXT, BertArchitecture, HubFolder, PackageFolder
from trainables.backbones.checkpoints import fitting_state, load_fitting
from trainables.backbones.config import BackboneConfig
from trainables.backbones.copying import Cloner
from trainables.backbones.inplace import set_in_place
from trainables.backbones.kept_networks import poured
from trainables.backbones.network import BackboneFacts, TransferNetwork, new_target_head
from trainables.backbones.packaged import PACKAGED, PackagedArchitecture
from trainables.backbones.timm_models import TimmArchitecture
from trainables.backbones.torchvision_models import TorchvisionArchitecture, classification_models, pretrained_models
from trainables.errors import BadInput, Problem, hint_of, nearest
from trainables.seeding import torch_seeded


def list_backbones(pattern: str = "*") -> list[str]:
    """Full names of the pretrained backbones that match `pattern`: packaged ones, then torchvision's, then timm's.

    `pattern` is a shell pattern (fnmatch), as in `timm.list_models`, compared with the full name and with the name
    without its library. Nothing is built or downloaded, so a timm model without one feature map and one linear
    classifier is listed, too; `check_backbone` refuses it. The models of the Hugging Face hub (`transformers/…`) are
    not listed.

    >>> list_backbones("efficientnet_lite0")
    ['package/efficientnet_lite0']
    >>> list_backbones("torchvision/resnet18*")
    ['torchvision/resnet18:IMAGENET1K_V1']
    """
    names = {
        "package": [*PACKAGED, *PACKAGED_TEXT],
        "torchvision": pretrained_models(),
        "timm": timm.list_models(pretrained=True),
    }
    return [
        f"{library}/{name}"
        for library, models in names.items()
        for name in models
        if fnmatchcase(name, pattern) or fnmatchcase(f"{library}/{name}", pattern)
    ]


def build_network(
    config: BackboneConfig, num_classes: int, seed: int, keep_source_head: bool, into: TransferNetwork | None = None
) -> TransferNetwork:
    """Builds a new network for `num_classes` target classes, on the CPU.

    The backbone and the source head are pre-trained, equal to the bit at every call, or random with
    `pretrained: false`, determined by `seed`, like the target head. The source head is None with
    `keep_source_head=False`, or if the weights have none. With `into`, a network of an earlier call with the same
    arguments but for `seed`, no network is built: that one is returned, on its device, with these weights.

    Raises BadInput if there is no such model, or if its weights cannot be read or downloaded.

    >>> config = BackboneConfig(name="package/efficientnet_lite0", pretrained=False)
    >>> network = build_network(config, num_classes=3, seed=0, keep_source_head=False)
    >>> import torch
    >>> images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    >>> outputs = network(network.embed(images))
    >>> outputs.target_logits.shape, outputs.pooled.shape
    (torch.Size([2, 3]), torch.Size([2, 1280]))
    """
    if into is not None:
        return _refilled(into, config, num_classes, seed)
    backbone, source_head = _fresh_parts(config, seed)
    return TransferNetwork(backbone, source_head if keep_source_head else None, num_classes, seed)


def check_backbone(config: BackboneConfig, needs_source_head: bool = False) -> None:
    """Raises BadInput if `build_network` would fail for this configuration.

    Reads a checkpoint, and tests whether published weights are reachable, but downloads nothing. `needs_source_head`:
    weights without a classifier are refused.
    """
    _require_one_meaning(config)
    architecture = find_architecture(config.name)
    has_source_head = bool(_num_source_classes(config, architecture))
    if config.pretrained and config.checkpoint is None:
        architecture.require_published()
    if needs_source_head and not has_source_head:
        raise BadInput(_no_source_head(config, architecture))


def fetch_weights(config: BackboneConfig) -> None:
    """Downloads the published weights that `build_network` would read, unless they are there. Raises BadInput."""
    if config.pretrained and config.checkpoint is None:
        _pretrained_parts(config.name, None, _stamp(None))


class BackboneSizes(NamedTuple):
    """Sizes of a backbone: D pooled features, S classes of the source head (0: none), parameters without the heads."""

    num_features: int
    num_source_classes: int
    num_parameters: int


def describe(config: BackboneConfig) -> BackboneSizes:
    """Sizes of the configured backbone, without its weights. Raises BadInput if there is no such model."""
    _require_one_meaning(config)
    architecture = find_architecture(config.name)
    backbone = architecture.cut(blank_on_meta(architecture)).backbone
    return BackboneSizes(
        num_features=backbone.num_features,
        num_source_classes=_num_source_classes(config, architecture),
        num_parameters=sum(parameter.numel() for parameter in backbone.parameters()),
    )


@lru_cache(maxsize=8)
def facts_about(name: str) -> BackboneFacts:
    """Properties of the backbone `name` that methods may require. Raises BadInput if there is no such model."""
    architecture = find_architecture(name)
    return BackboneFacts.of(architecture.cut(blank_on_meta(architecture)).backbone, name)


@lru_cache(maxsize=8)
def find_architecture(name: str) -> Architecture:
    """The architecture that `backbone.name` denotes. Raises BadInput, with similar names, for an unknown one."""
    if name.startswith("transformers/"):
        return BertArchitecture(name, HubFolder(name.removeprefix("transformers/")), pooling="first")
    library, _, model = name.rpartition("/")
    match library:
        case "package" if model in PACKAGED_TEXT:
            return BertArchitecture(name, PackageFolder(PACKAGED_TEXT[model]), pooling="mean")
        case "package" if model in PACKAGED:
            return PackagedArchitecture(model)
        case "torchvision" if model.partition(":")[0] in classification_models():
            return TorchvisionArchitecture(model)
        case "timm" | "" if model.partition(".")[0] in timm.list_models():
            return TimmArchitecture(model)
        case _:
            close = _nearest_names(library, model)
            got = f"{name!r}{hint_of(close)}"
            expected = "package/…, torchvision/…, timm/… or transformers/… and the name of a model there"
            raise BadInput(Problem("name", expected, got))


def _fresh_parts(config: BackboneConfig, seed: int) -> Parts:
    _require_one_meaning(config)
    if config.pretrained:
        return _pretrained_parts(*weights_key(config)).copy()
    architecture = find_architecture(config.name)
    with torch_seeded(seed, "backbone"):
        model = architecture.blank()
    return Parts(_cut(architecture, model).backbone, None)


def _refilled(network: TransferNetwork, config: BackboneConfig, num_classes: int, seed: int) -> TransferNetwork:
    parts = _pretrained_parts(*weights_key(config)).original if config.pretrained else _fresh_parts(config, seed)
    head = new_target_head(network.backbone.num_features, num_classes, seed)
    fits = poured(parts.backbone, network.backbone) and poured(head, network.target_head)
    if network.source_head is not None and parts.source_head is not None:
        fits = fits and poured(parts.source_head, network.source_head)
    assert fits, f"the network is of another structure than {config.name!r} for {num_classes} classes"
    network.train()
    return network


def weights_key(config: BackboneConfig) -> tuple[str, Path | None, tuple[int, int]]:
    """Name, checkpoint and version of the checkpoint: equal for equal pre-trained weights."""
    return config.name, config.checkpoint, _stamp(config.checkpoint)


@lru_cache(maxsize=2)
def _pretrained_parts(name: str, checkpoint: Path | None, stamp: tuple[int, int]) -> Cloner[Parts]:
    """Reads weights once per process; `stamp` distinguishes versions of a file."""
    architecture = find_architecture(name)
    # Building a model draws random numbers even if weights then replace them: the global generator must not depend on
    # whether the result of this call was cached.
    with torch_seeded(0, "backbone"):
        if checkpoint is None:
            return Cloner(_cut(architecture, architecture.published()))
        state, num_classes = fitting_state(checkpoint, architecture)
        model = architecture.blank(num_classes)
    load_fitting(model, state)
    backbone, source_head = _cut(architecture, model)
    return Cloner(Parts(backbone, None if num_classes is None else source_head))


def _cut(architecture: Architecture, model: nn.Module) -> Parts:
    """Cuts a model, with the activations set for training."""
    parts = architecture.cut(model)
    set_in_place(parts.backbone, False)
    return parts


def _stamp(file: Path | None) -> tuple[int, int]:
    if file is None or not file.exists():
        return (0, 0)
    status = file.stat()
    return (status.st_mtime_ns, status.st_size)


def _num_source_classes(config: BackboneConfig, architecture: Architecture) -> int:
    if not config.pretrained:
        return 0
    if config.checkpoint is not None:
        return fitting_state(config.checkpoint, architecture)[1] or 0
    source_head = architecture.cut(blank_on_meta(architecture)).source_head
    return source_head.out_features if source_head is not None else 0


def _require_one_meaning(config: BackboneConfig) -> None:
    if config.checkpoint is not None and not config.pretrained:
        raise BadInput(Problem("pretrained", "true where backbone.checkpoint is given", "false"))


def _no_source_head(config: BackboneConfig, architecture: Architecture) -> Problem:
    reads = "as the method reads the pre-trained classifier"
    if not config.pretrained:
        return Problem("pretrained", f"true, {reads}", "false")
    if config.checkpoint is not None:
        got = f"a file without {architecture.classifier}.weight" if architecture.classifier else "a model without one"
        return Problem("checkpoint", f"a classifier in {config.checkpoint}, {reads}", got)
    expected = f"a model with a classifier, {reads} (smile does not with method.gamma_fc: 0)"
    return Problem("name", expected, f"{config.name!r}, which was published without one")


def _nearest_names(library: str, model: str) -> list[str]:
    """Full names of the models most similar to `model`, without its weights: first those of its library, then all."""
    libraries = {
        "package": [*PACKAGED, *PACKAGED_TEXT],
        "torchvision": classification_models(),
        "timm": timm.list_models(),
    }
    arch = re.split(r"[:.]", model)[0]
    near_by = [f"{library}/{name}" for name in nearest(arch, libraries.get(library, ()))]
    close = nearest(arch, (name for names in libraries.values() for name in names))
    everywhere = [f"{library}/{name}" for name in close for library, names in libraries.items() if name in names]
    return list(dict.fromkeys([*near_by, *everywhere]))[:4]
