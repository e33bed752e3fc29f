from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from tests.trainables.tiny import tiny_network
from trainables.backbones import build_network
from trainables.backbones.config import BackboneConfig
from trainables.backbones.copying import Cloner, clone, structural_copy
from trainables.backbones.network import TransferNetwork


def tensors_of(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


@pytest.fixture
def network() -> TransferNetwork:
    network = tiny_network().to(memory_format=torch.channels_last)
    network.backbone.requires_grad_(False)
    return network.eval()


def test_a_copy_is_equal_in_everything(network: TransferNetwork) -> None:
    copy = clone(network)
    assert repr(copy) == repr(network)
    assert not any(module.training for module in copy.modules())
    for (name, ours), (other_name, theirs) in zip(tensors_of(copy), tensors_of(network), strict=True):
        assert name == other_name
        assert torch.equal(ours, theirs)
        assert (type(ours), ours.requires_grad, ours.stride()) == (type(theirs), theirs.requires_grad, theirs.stride())


def test_a_copy_shares_nothing_with_the_original_nor_with_another(network: TransferNetwork) -> None:
    cloner = Cloner(network)
    first, second = cloner.copy(), cloner.copy()
    pointers = [{t.data_ptr() for _, t in tensors_of(each)} for each in (network, first, second)]
    assert len(set.union(*pointers)) == sum(map(len, pointers))
    first.backbone.num_features = 99
    assert second.backbone.num_features == network.backbone.num_features != 99


def test_what_is_tied_stays_tied() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    copy = clone(module)
    with torch.no_grad():
        copy[0].weight.fill_(5.0)
    assert copy[1].weight is copy[0].weight
    assert not torch.equal(module[0].weight, copy[0].weight)


def test_what_cannot_be_pickled_is_copied_nevertheless() -> None:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda module, inputs, output: output + 1)
    copy = clone(module)
    assert copy.weight is not module.weight
    assert torch.equal(copy(torch.ones(2)), module(torch.ones(2)))


def test_a_structural_copy_is_new_modules_around_the_same_tensors(network: TransferNetwork) -> None:
    shared = structural_copy(network)
    for (name, ours), (other_name, theirs) in zip(tensors_of(shared), tensors_of(network), strict=True):
        assert name == other_name
        assert ours is theirs
    assert not set(shared.modules()) & set(network.modules())


@pytest.mark.parametrize("copied", [structural_copy, clone])
def test_a_copy_of_a_traced_network_is_in_the_mode_of_the_network(copied: Callable[..., TransferNetwork]) -> None:
    """In training mode it would change the statistics of its BatchNorms, which a structural copy shares."""
    network = build_network(
        BackboneConfig(name="torchvision/densenet121", pretrained=False), 3, 0, keep_source_head=False
    ).eval()
    assert not any(module.training for module in copied(network).modules())
    network.backbone.train()
    modes = {name: module.training for name, module in network.named_modules()}
    assert {name: module.training for name, module in copied(network).named_modules()} == modes


def test_a_structural_copy_of_what_cannot_be_pickled() -> None:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda module, inputs, output: output + 1)
    shared = structural_copy(module)
    assert shared is not module
    assert shared.weight is module.weight
    assert torch.equal(shared(torch.ones(2)), module(torch.ones(2)))
