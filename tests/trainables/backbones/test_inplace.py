from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.backbones import build_network
from trainables.backbones.config import BackboneConfig
from trainables.backbones.inplace import set_in_place


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Mish])
def test_in_place_or_not_is_one_to_the_bit(kind: type[nn.Module]) -> None:
    gradients = []
    for in_place in (True, False):
        network = nn.Sequential(nn.Linear(5, 4), kind(), nn.Linear(4, 3))
        with torch.no_grad():
            for place, parameter in enumerate(network.parameters()):
                parameter.copy_(torch.linspace(-9, 9 + place, parameter.numel()).view_as(parameter))
        set_in_place(network, in_place)
        assert network[1].inplace is in_place
        network(torch.linspace(-1, 1, 10).view(2, 5)).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_relu_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True))
    set_in_place(network, False)
    assert network[0].inplace


@pytest.mark.parametrize("name", ["timm/efficientnet_lite0", "torchvision/mobilenet_v3_small"])
def test_a_network_is_built_without_the_copies(name: str) -> None:
    network = build_network(BackboneConfig(name=name, pretrained=False), 3, 0, keep_source_head=False)
    assert not any(
        module.inplace for module in network.modules() if isinstance(module, nn.ReLU6 | nn.SiLU | nn.Hardswish)
    )
