"""Ends of stages, and forward hooks that replace everything the rest of the network reads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.tiny import TinyAffine, TinyConv
from trainables.backbones.network import Backbone
from trainables.backbones.registry import find_architecture

from .helpers import images, whole_and_parts


def _resnet(model: Any, x: Tensor) -> Iterator[Tensor]:
    x = model.maxpool(getattr(model, "act1", getattr(model, "relu", None))(model.bn1(model.conv1(x))))
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        yield (x := layer(x))


def _in_pieces(*pieces: tuple[int, int]) -> Callable[[Any, Tensor], Iterator[Tensor]]:
    """A torchvision model that is a sequence called `features`, stage by stage; the first piece is the stem."""

    def outputs(model: Any, x: Tensor) -> Iterator[Tensor]:
        for number, (start, stop) in enumerate(pieces):
            x = model.features[start:stop](x)
            if number:
                yield x

    return outputs


def _lite0(model: Any, x: Tensor) -> Iterator[Tensor]:
    x = model.bn1(model.conv_stem(x))
    for number, block in enumerate(model.blocks):
        x = block(x)
        if number in (0, 1, 2, 4):
            yield x
    yield model.bn2(model.conv_head(x))


def _timm_vit(model: Any, x: Tensor) -> Iterator[Tensor]:
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
    for number, block in enumerate(model.blocks):
        x = block(x)
        if number in (1, 2, 4):
            yield x
    yield model.norm(x)


def _torchvision_vit(model: Any, x: Tensor) -> Iterator[Tensor]:
    x = model._process_input(x)
    x = torch.cat([model.class_token.expand(len(x), -1, -1), x], dim=1) + model.encoder.pos_embedding
    for number, layer in enumerate(model.encoder.layers):
        x = layer(x)
        if number in (2, 5, 8):
            yield x
    yield model.encoder.ln(x)


# Partial forward passes, written out by hand.
PARTIAL: dict[str, tuple[int, Callable[[Any, Tensor], Iterator[Tensor]]]] = {
    "torchvision/resnet18": (64, _resnet),
    "torchvision/resnet50": (64, _resnet),
    "torchvision/mobilenet_v3_small": (64, _in_pieces((0, 1), (1, 2), (2, 4), (4, 9), (9, 13))),
    "torchvision/convnext_tiny": (64, _in_pieces((0, 1), (1, 2), (2, 4), (4, 6), (6, 8))),
    "torchvision/efficientnet_b0": (64, _in_pieces((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 9))),
    "torchvision/vit_b_32": (224, _torchvision_vit),
    "timm/resnet18": (64, _resnet),
    "timm/tf_efficientnet_lite0": (64, _lite0),
    "timm/test_vit": (160, _timm_vit),
}

every_network = pytest.mark.parametrize("name", PARTIAL)


def resolve_share(module: nn.Module, x: Tensor, training: bool) -> nn.Module:
    """With nothing random, and BatchNorm statistics under which random weights do not fade to zero."""
    for part in module.modules():
        if isinstance(part, nn.Dropout) or type(part).__name__ in ("StochasticDepth", "DropPath"):
            part.p = part.drop_prob = 0.0
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        module.train()(x)
    return module.train(training)


def stage_outputs(backbone: Backbone, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs of all stages as hooks see them, and the feature map."""
    seen: list[Tensor] = []
    hooks = [
        backbone.get_submodule(stage).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
        for stage in backbone.stages
    ]
    features, _ = backbone(x)
    for hook in hooks:
        hook.remove()
    return seen, features


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_stages_end_where_a_partial_pass_does(name: str, training: bool) -> None:
    size, partial = PARTIAL[name]
    whole, parts = whole_and_parts(find_architecture(name))
    x = images(size=size)
    resolve_share(whole, x, training)
    backbone = resolve_share(parts.backbone, x, training)
    with torch.no_grad():
        seen, features = stage_outputs(backbone, x)
        expected = list(partial(whole, x))
    assert len(seen) == len(expected)
    for got, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen[-1], features)


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_what_a_hook_returns_is_all_that_the_rest_sees(name: str, training: bool) -> None:
    """With the outputs of a stage for other images, the network has the outputs of those images."""
    x = images(size=PARTIAL[name][0])
    other = x.flip(2) / 2
    backbone = copy.deepcopy(resolve_share(whole_and_parts(find_architecture(name))[1].backbone, x, training))
    with torch.no_grad():
        ends, _ = stage_outputs(backbone, other)
        wanted = backbone(other)
        assert not torch.allclose(backbone(x)[1], wanted[1], rtol=0.01, atol=0.01)
        for stage, end in zip(backbone.stages, ends, strict=True):
            hook = backbone.get_submodule(stage).register_forward_hook(lambda *_, end=end: end)
            for got, expected in zip(backbone(x), wanted, strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
            hook.remove()


@every_network
def test_parameters_lie_in_stages_in_order(name: str) -> None:
    backbone = whole_and_parts(find_architecture(name))[1].backbone
    stages = [backbone.stage_index(parameter) for parameter, _ in backbone.named_parameters()]
    assert set(stages) == set(range(len(backbone.stages) + 1))
    assert stages[0] == 0
    assert stages[-1] == len(backbone.stages)


@pytest.mark.parametrize("name", ["torchvision/resnet50", "timm/resnet50"])
def test_a_resnets_stages_are_its_layers(name: str) -> None:
    backbone = whole_and_parts(find_architecture(name))[1].backbone
    for parameter, _ in backbone.named_parameters():
        layer = parameter.split(".")[1]
        assert backbone.stage_index(parameter) == (int(layer[-1]) if layer.startswith("layer") else 0)


def test_taps_change_neither_state_nor_gradients() -> None:
    whole, parts = whole_and_parts(find_architecture("torchvision/resnet18"))
    state = {f"model.{name}": value for name, value in whole.state_dict().items() if not name.startswith("fc.")}
    assert parts.backbone.state_dict().keys() == state.keys()
    x = images()
    parts.backbone(x)[1].square().sum().backward()
    whole.fc = nn.Identity()
    whole(x).square().sum().backward()
    for name, parameter in parts.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, whole.get_parameter(name.removeprefix("model.")).grad)


def test_without_known_stages_everything_is_stem() -> None:
    backbone = TinyAffine()
    assert backbone.stages == ()
    assert {backbone.stage_index(name) for name, _ in backbone.named_parameters()} == {0}


def test_a_stage_ends_with_its_last_module() -> None:
    stages = {name: TinyConv().stage_index(name) for name, _ in TinyConv().named_parameters()}
    assert {name for name, stage in stages.items() if stage == 1} == {"stem.0.weight", "stem.1.weight", "stem.1.bias"}
    assert set(stages.values()) == {1, 2}
