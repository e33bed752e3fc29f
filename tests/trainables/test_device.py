from __future__ import annotations

import platform

import pytest
import torch

from trainables.device import default_device, device_name, processor_name


@pytest.mark.parametrize(("has_cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_device_is_a_gpu_of_cuda_or_the_cpu(monkeypatch: pytest.MonkeyPatch, has_cuda: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert default_device().type == kind


def test_a_gpu_and_a_processor_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert device_name(torch.device("cuda")) == "Tesla T4"
    assert device_name(torch.device("cpu")) == processor_name()


def test_a_processor_without_a_name_has_at_least_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert processor_name() == (platform.processor() or platform.machine()) != ""
