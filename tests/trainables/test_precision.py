"""Which precision a device computes in."""

from __future__ import annotations

import pytest
import torch

from trainables.precision import ComputedPrecision, Precision, autocast_to, precision_on

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("capability", [(9, 0), (7, 5), (6, 1)])
@pytest.mark.parametrize("asked", ["fp32", "bf16", "fp16"])
def test_what_is_asked_for_is_computed(
    monkeypatch: pytest.MonkeyPatch, asked: Precision, capability: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision_on(asked, GPU) == precision_on(asked, CPU) == asked


@pytest.mark.parametrize(
    ("capability", "best"), [((12, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")]
)
def test_auto_is_by_the_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], best: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision_on("auto", GPU) == best
    assert precision_on("auto", CPU) == "fp32"


def test_auto_on_a_gpu_of_amd_is_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert precision_on("auto", GPU) == "bf16"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_products_are_of_that_type(precision: ComputedPrecision, dtype: torch.dtype) -> None:
    with autocast_to(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
