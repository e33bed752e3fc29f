from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import models

from trainables.backbones.architecture import blank_on_meta
from trainables.backbones.torchvision_models import TorchvisionArchitecture, classification_models
from trainables.errors import BadInput

from .helpers import assert_same_logits, images, whole_and_parts


def _resnet_map(model: Any, x: Tensor) -> Tensor:
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    return model.layer4(model.layer3(model.layer2(model.layer1(x))))


def _shufflenet_map(model: Any, x: Tensor) -> Tensor:
    return model.conv5(model.stage4(model.stage3(model.stage2(model.maxpool(model.conv1(x))))))


def _vit_tokens(model: Any, x: Tensor) -> Tensor:
    x = model._process_input(x)
    return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], dim=1))


def _swin_map(model: Any, x: Tensor) -> Tensor:
    return model.norm(model.features(x)).permute(0, 3, 1, 2)


# The last map, written out by hand for each family.
MAPS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "resnet18": _resnet_map,
    "mobilenet_v3_small": lambda model, x: model.features(x),
    "efficientnet_b0": lambda model, x: model.features(x),
    "densenet121": lambda model, x: F.relu(model.features(x)),
    "vgg11": lambda model, x: model.avgpool(model.features(x)),
    "convnext_tiny": lambda model, x: model.features(x),
    "vit_b_32": _vit_tokens,
    "swin_t": _swin_map,
    "shufflenet_v2_x0_5": _shufflenet_map,
    "regnet_y_400mf": lambda model, x: model.trunk_output(model.stem(x)),
}


@pytest.mark.parametrize("arch", MAPS)
def test_the_cut_model_computes_what_the_whole_one_does(arch: str) -> None:
    whole, parts = whole_and_parts(TorchvisionArchitecture(arch))
    x = images(size=224 if arch.startswith("vit") else 64)
    assert_same_logits(whole, parts, x, training=True)
    assert_same_logits(whole, parts, x, training=False)  # after training: running statistics moved alike, too

    with torch.no_grad():
        features, pooled = parts.backbone(x)
        torch.testing.assert_close(features, MAPS[arch](whole, x), rtol=1e-5, atol=1e-5)
    assert features.ndim == (3 if arch.startswith("vit") else 4)
    assert pooled.shape == (2, parts.backbone.num_features)


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_parts_that_only_serve_pre_training_are_gone(arch: str) -> None:
    whole, parts = whole_and_parts(TorchvisionArchitecture(arch))
    assert_same_logits(whole, parts, images(size=96), training=False)
    assert not [name for name, _ in parts.backbone.named_parameters() if "aux" in name.lower()]


def test_parameters_keep_their_names_and_exclude_the_classifier() -> None:
    architecture = TorchvisionArchitecture("resnet18")
    whole = blank_on_meta(architecture)
    backbone = architecture.cut(copy.deepcopy(whole)).backbone
    expected = {f"model.{name}" for name, _ in whole.named_parameters() if not name.startswith("fc.")}
    assert {name for name, _ in backbone.named_parameters()} == expected


def test_gradients_reach_the_first_layer_from_map_and_pooled_features() -> None:
    backbone = whole_and_parts(TorchvisionArchitecture("mobilenet_v3_small"))[1].backbone
    first = next(backbone.parameters())
    features, pooled = backbone(images())
    for output in (features, pooled):
        (gradient,) = torch.autograd.grad(output.square().mean(), first, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_inputs_are_normalised_by_the_statistics_of_the_weights() -> None:
    backbone = whole_and_parts(TorchvisionArchitecture("resnet18"))[1].backbone
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    preset = models.ResNet18_Weights.DEFAULT.transforms(crop_size=8, resize_size=8)
    torch.testing.assert_close(backbone.embed(x), preset(x), rtol=1e-5, atol=1e-5)


def test_weights_decide_the_image_size_of_a_transformer() -> None:
    tokens = blank_on_meta(TorchvisionArchitecture("vit_b_16:IMAGENET1K_SWAG_E2E_V1")).get_parameter(
        "encoder.pos_embedding"
    )
    assert tokens.shape[1] == 1 + (384 // 16) ** 2


def test_unknown_weights_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(BadInput, match=r"name: .*resnet50 \(IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT\), got 'V3'"):
        TorchvisionArchitecture("resnet50:V3")


@pytest.mark.parametrize("arch", ["squeezenet1_0", "squeezenet1_1"])
def test_a_model_without_final_linear_is_refused_by_name(arch: str) -> None:
    with pytest.raises(BadInput, match=f"ends in a linear classifier, got torchvision/{arch}"):
        TorchvisionArchitecture(arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [name for name in classification_models() if not name.startswith("squeezenet")])
def test_every_model_can_be_cut(arch: str) -> None:
    architecture = TorchvisionArchitecture(arch)
    backbone, head = architecture.cut(blank_on_meta(architecture))
    size = max(128, *architecture.weights.meta["min_size"])
    for training in (True, False):
        features, pooled = backbone.train(training)(torch.empty(2, 3, size, size, device="meta"))
        assert features.ndim in (3, 4)
        assert head is not None
        assert pooled.shape == (2, head.in_features)
