from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from trainables.backbones.timm_models import TimmArchitecture
from trainables.errors import BadInput

from .helpers import assert_same_logits, images, whole_and_parts


@pytest.mark.parametrize(
    ("name", "size", "feature_shape"),
    [
        ("test_resnet", 64, (2, 96, 2, 2)),
        ("test_vit", 160, (2, 101, 64)),
        ("test_convnext", 64, (2, 64, 2, 2)),
        ("swin_tiny_patch4_window7_224", 224, (2, 768, 7, 7)),  # channels last inside
        ("resnetv2_18", 64, (2, 512, 2, 2)),  # a 1×1 convolution as classifier
        ("ghostnet_050", 64, (2, 480, 2, 2)),  # dropout before the classifier
        ("rexnet_100", 64, (2, 1280, 2, 2)),  # the same, in a module of its own
    ],
)
def test_the_cut_model_computes_what_the_whole_one_does(name: str, size: int, feature_shape: tuple[int, ...]) -> None:
    whole, parts = whole_and_parts(TimmArchitecture(name))
    assert_same_logits(whole, parts, images(size=size), training=True)
    assert_same_logits(whole, parts, images(size=size), training=False)
    features, pooled = parts.backbone(images(size=size))
    assert features.shape == feature_shape
    assert pooled.shape == (2, parts.backbone.num_features)
    assert parts.backbone.head_dropout == (0.2 if name in ("ghostnet_050", "rexnet_100") else 0.0)
    classifier = sum(parameter.numel() for parameter in parts.source_head.parameters())  # type: ignore[union-attr]
    assert _num_parameters(parts.backbone) == _num_parameters(whole) - classifier


def test_inputs_are_normalised_by_the_statistics_of_the_tag() -> None:
    backbone = whole_and_parts(TimmArchitecture("vit_tiny_patch16_224.augreg_in21k_ft_in1k"))[1].backbone
    black = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    torch.testing.assert_close(backbone.embed(black), -torch.ones(1, 3, 2, 2))  # (0 - 0.5) / 0.5


def test_a_model_published_without_classifier_has_no_source_head() -> None:
    assert TimmArchitecture("vit_small_patch16_dinov3").classifier == ""


def test_an_unknown_tag_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"name: .*resnet18 \(a1_in1k, .*tv_in1k\), got 'nothing'"):
        TimmArchitecture("resnet18.nothing")


@pytest.mark.parametrize(("name", "got"), [("levit_128", "tuple"), ("repvit_m0_9", "RepVitClassifier")])
def test_a_classifier_that_is_not_linear_is_refused(name: str, got: str) -> None:
    with pytest.raises(BadInput, match=f"one linear classifier, got '{name}' with a {got} as classifier"):
        TimmArchitecture(name)


def test_a_model_without_published_weights_is_refused_before_any_download() -> None:
    with pytest.raises(
        BadInput, match=r"expected a model with published weights .*, got 'resnet50t', which has none in timm"
    ):
        TimmArchitecture("resnet50t").require_published()


def test_weights_in_the_hub_cache_are_used_without_network(caches: Path) -> None:
    published = timm.create_model("test_resnet.r160_in1k")
    _put_into_hub_cache(caches / "hub", "timm/test_resnet.r160_in1k", published)
    architecture = TimmArchitecture("test_resnet.r160_in1k")
    architecture.require_published()
    got = architecture.published().state_dict()
    for name, tensor in published.state_dict().items():
        assert torch.equal(got[name], tensor)


def test_without_cache_and_network_the_problem_is_said_at_once(caches: Path, network: list[str]) -> None:
    for attempt in (TimmArchitecture("test_resnet").require_published, TimmArchitecture("test_resnet").published):
        with pytest.raises(
            BadInput, match=f"name: expected weights that can be downloaded or lie in {caches / 'hub'} .*, got"
        ):
            attempt()
    assert network
    network.clear()


def _num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _put_into_hub_cache(cache: Path, repository: str, model: torch.nn.Module) -> None:
    repository_folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = repository_folder / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository_folder / "refs").mkdir()
    (repository_folder / "refs" / "main").write_text("0123")
    save_file(model.state_dict(), snapshot / "model.safetensors")
