from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tests.trainables.tiny import tiny_network
from trainables.backbones.kept_networks import KeptNetworks, poured, tensors_of


def addresses(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors_of(module).values()]


class TestPouring:
    def test_copies_every_tensor_in_place(self) -> None:
        source, target = tiny_network(seed=1), tiny_network(seed=2)
        before = addresses(target)
        assert poured(source, target)
        assert addresses(target) == before
        pairs = zip(tensors_of(source).values(), tensors_of(target).values(), strict=True)
        assert all(torch.equal(mine, yours) for mine, yours in pairs)

    def test_keeps_the_layout(self) -> None:
        source, target = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        strides = target.weight.stride()
        assert poured(source, target)
        assert target.weight.stride() == strides
        assert torch.equal(target.weight, source.weight)

    def test_leaves_no_gradient(self) -> None:
        target = nn.Linear(2, 2)
        target(torch.ones(1, 2)).sum().backward()
        assert poured(nn.Linear(2, 2), target)
        assert target.weight.grad is None

    @pytest.mark.parametrize("other", [nn.Linear(2, 3), nn.Linear(2, 2, bias=False), nn.Linear(2, 2).double()], ids=str)
    def test_copies_nothing_between_structures(self, other: nn.Module) -> None:
        target = nn.Linear(2, 2)
        before = target.weight.detach().clone()
        assert not poured(other, target)
        assert torch.equal(target.weight, before)

    def test_is_seen_by_whoever_watches_for_changes(self) -> None:
        """As the folded teacher does, by the version counters."""
        target = nn.Linear(2, 2)
        version = target.weight._version
        poured(nn.Linear(2, 2), target)
        assert target.weight._version > version


class TestKeeping:
    def test_one_training_after_the_other_has_the_same_modules(self) -> None:
        kept = KeptNetworks()
        kept.begin("a")
        first = kept.copy_of("teacher", tiny_network(seed=1))
        kept.begin("a")
        assert kept.copy_of("teacher", tiny_network(seed=2)) is first
        assert torch.equal(first.backbone.stem[0].weight, tiny_network(seed=2).backbone.stem[0].weight)  # type: ignore[index]

    def test_another_structure_frees_them(self) -> None:
        kept = KeptNetworks()
        kept.begin("a")
        first = kept.copy_of("teacher", nn.Linear(2, 2))
        kept.begin("b")
        assert kept.find("teacher") is None
        assert kept.copy_of("teacher", nn.Linear(2, 2)) is not first

    def test_a_network_that_does_not_fit_replaces_the_kept_one(self) -> None:
        kept = KeptNetworks()
        kept.copy_of("start", nn.Linear(2, 2))
        wider = kept.copy_of("start", nn.Linear(2, 3))
        assert wider.out_features == 3
        assert kept.copy_of("start", nn.Linear(2, 3)) is wider

    def test_a_copy_has_tensors_of_its_own(self) -> None:
        network = nn.Linear(2, 2)
        copied = KeptNetworks().copy_of("teacher", network)
        assert not set(addresses(copied)) & set(addresses(network))


def sgd(module: nn.Module) -> Optimizer:
    return SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=True)


def adamw(module: nn.Module) -> Optimizer:
    return AdamW(module.parameters(), lr=0.1)


def fused_sgd(module: nn.Module) -> Optimizer:
    return SGD(module.parameters(), lr=0.1, momentum=0.9, fused=True)


def step(optimizer: Optimizer, module: nn.Module, times: int = 3) -> None:
    for number in range(times):
        optimizer.zero_grad()
        module(torch.full((1, 2), 1.0 + number)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("build", [sgd, fused_sgd, adamw])
class TestOptimiserState:
    def test_is_reused_with_the_result_of_a_new_one(self, build: type[Optimizer]) -> None:
        kept, module, start = KeptNetworks(), nn.Linear(2, 2), nn.Linear(2, 2)
        results, tensors = [], []
        for fresh in (False, False, True):
            poured(start, module)
            optimizer = build(module)
            if not fresh:
                kept.share_state(optimizer)
            step(optimizer, module)
            results.append(module.weight.detach().clone())
            tensors.append({id(value) for state in optimizer.state.values() for value in state.values()})
        assert torch.equal(results[0], results[2])
        assert torch.equal(results[1], results[2])
        assert tensors[0] == tensors[1] != tensors[2]

    def test_has_none_of_parameters_that_are_no_longer_trained(self, build: type[Optimizer]) -> None:
        kept = KeptNetworks()
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        for module in (first, second):
            optimizer = build(module)
            kept.share_state(optimizer)
            step(optimizer, module)
        assert set(optimizer.state) == set(second.parameters())
        optimizer.state_dict()

    def test_of_a_group_with_new_parameters_is_new(self, build: type[Optimizer]) -> None:
        """The fused SGD takes momentum buffers of all parameters, or of none."""
        kept, first = KeptNetworks(), nn.Linear(2, 2)
        for module in (first, nn.Sequential(first, nn.Linear(2, 2))):
            optimizer = build(module)
            kept.share_state(optimizer)
            assert not optimizer.state
            step(optimizer, module)


def test_the_state_of_an_optimiser_of_another_form_is_not_reused() -> None:
    """AdamW counts its steps in tensors on the host, or with `fused` or `capturable` on the device."""
    kept, module = KeptNetworks(), nn.Linear(2, 2)
    for form in ({}, {"fused": True}, {"fused": True, "capturable": True}, {}):
        optimizer = AdamW(module.parameters(), lr=0.1, **form)
        kept.share_state(optimizer)
        assert not optimizer.state
        step(optimizer, module)
