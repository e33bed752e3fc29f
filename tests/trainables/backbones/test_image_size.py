from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables.backbones import build_network
from trainables.backbones.config import BackboneConfig
from trainables.backbones.image_size import check_image_size, takes_size
from trainables.backbones.timm_models import TimmArchitecture
from trainables.errors import BadInput


@pytest.mark.parametrize(
    ("name", "size_px", "taken"),
    [
        ("package/efficientnet_lite0", 16, True),
        ("torchvision/resnet18", 32, True),
        ("torchvision/vgg11", 16, False),  # its five poolings leave nothing of 16 pixels
        ("torchvision/vgg11", 32, True),
        ("torchvision/vit_b_16", 64, False),
        ("torchvision/vit_b_16", 224, True),
        ("timm/vit_tiny_patch16_224", 64, True),
        ("timm/vit_tiny_patch16_224", 70, False),  # no whole number of patches
        ("timm/mixer_s16_224", 64, False),  # mixes tokens by weights of their number
    ],
)
def test_a_size_is_taken_where_features_come_out(name: str, size_px: int, taken: bool) -> None:
    assert takes_size(name, size_px) is taken


def test_the_sizes_that_are_taken_are_named() -> None:
    with pytest.raises(BadInput) as refused:
        check_image_size("torchvision/vit_b_16", 64)
    expected = "size_px: expected a size of images that torchvision/vit_b_16 takes, as 224, got 64"
    assert str(refused.value) == expected
    with pytest.raises(BadInput, match=r"takes, as 32, 64, 80, 96, got 70"):
        check_image_size("timm/vit_tiny_patch16_224", 70)


def test_a_transformer_of_timm_trains_at_a_size_that_it_was_not_published_for(tmp_path: Path) -> None:
    """With weights of the published shapes, whose gradient reaches the resampled embedding of positions."""
    torch.save(TimmArchitecture("vit_tiny_patch16_224").blank().state_dict(), tmp_path / "weights.pt")
    config = BackboneConfig(name="timm/vit_tiny_patch16_224", checkpoint=tmp_path / "weights.pt")
    network = build_network(config, num_classes=2, seed=0, keep_source_head=True)
    outputs = network(network.embed(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)))
    assert outputs.features.shape == (2, 1 + 4 * 4, 192)
    outputs.target_logits.sum().backward()
    positions = network.backbone.model.pos_embed  # type: ignore[union-attr]
    assert positions.shape == (1, 1 + 14 * 14, 192)
    assert positions.grad is not None
