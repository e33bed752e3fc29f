"""Which kernels a GPU computes with; the switches are there without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainables.training.config import TrainingConfig
from trainables.training.kernels import kernels

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def switches() -> dict[str, Any]:
    return {
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.deterministic,
        "torch": torch.are_deterministic_algorithms_enabled(),
        "products": torch.get_float32_matmul_precision(),
    }


DEFAULTS = {"benchmark": False, "cudnn": False, "torch": False, "products": "highest"}


@pytest.mark.parametrize(
    ("deterministic", "constant", "changed"),
    [
        (False, True, {"benchmark": True}),
        (False, False, {}),
        (True, True, {"cudnn": True, "torch": True}),
        (True, False, {"cudnn": True, "torch": True}),
    ],
)
def test_of_a_gpu_are_chosen_for_the_block(deterministic: bool, constant: bool, changed: dict[str, bool]) -> None:
    assert switches() == DEFAULTS
    with kernels(TrainingConfig(deterministic=deterministic), GPU, shapes_are_constant=constant):
        assert switches() == DEFAULTS | {"products": "high"} | changed
    assert switches() == DEFAULTS


def test_are_as_before_after_an_error() -> None:
    with pytest.raises(KeyError), kernels(TrainingConfig(deterministic=True), GPU):
        raise KeyError
    assert switches() == DEFAULTS


def test_of_the_cpu_stay_as_they_are() -> None:
    with kernels(TrainingConfig(deterministic=True), CPU, shapes_are_constant=True):
        assert switches() == DEFAULTS
