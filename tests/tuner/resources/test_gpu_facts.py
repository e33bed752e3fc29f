"""Why a GPU cannot be used, told from what a worker found; without a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.precision import Capability
from tuner.resources.gpu_facts import GpuFacts, has_kernels

TURING_AND_LATER = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
A100 = GpuFacts(
    node="node-1",
    torch="2.14.1+cu130",
    cuda="13.0",
    architectures=TURING_AND_LATER,
    driver="580.65.06",
    name="NVIDIA A100-SXM4-80GB",
    capability=(8, 0),
)
TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 12040)."


def said(needs_bf16: bool = False, **changes: Any) -> str:
    return str(A100.model_copy(update=changes).problem(needs_bf16))


def test_a_gpu_on_which_a_step_was_trained_is_none() -> None:
    assert A100.problem(needs_bf16=True) is None
    assert str(A100) == "NVIDIA A100-SXM4-80GB (compute capability 8.0, TF32, driver 580.65.06)"


def test_a_driver_that_is_too_old_is_named_with_the_one_that_is_needed() -> None:
    assert said(name="", capability=None, driver="535.104.05", failure=TOO_OLD) == (
        "resources.gpus: expected a GPU on which PyTorch 2.14.1+cu130 (it takes NVIDIA driver 580 or newer and compute "
        "capability 7.5 or newer) trains, or gpus: 0, got the GPU (driver 535.104.05) on node-1: " + TOO_OLD
    )


@pytest.mark.parametrize(("cuda", "least"), [("11.8", 450), ("12.6", 525), ("13.0", 580)])
def test_the_driver_is_that_of_the_version_of_cuda(cuda: str, least: int) -> None:
    assert f"NVIDIA driver {least} or newer" in said(cuda=cuda, failure="no")


def test_a_gpu_without_kernels_is_named() -> None:
    text = said(name="Tesla V100", capability=(7, 0), failure="")
    assert "capability 7.5 or newer" in text
    assert "got Tesla V100 (compute capability 7.0, driver 580.65.06) on node-1: this PyTorch has no kernels" in text


def test_a_pytorch_for_the_cpu_is_named() -> None:
    text = said(torch="2.14.1+cpu", cuda="", architectures=(), failure="AssertionError: not compiled with CUDA")
    assert text.endswith("on node-1: this PyTorch is built for the CPU alone")


def test_emulated_bf16_is_refused_where_it_is_asked_for() -> None:
    turing = {"name": "Tesla T4", "capability": (7, 5)}
    assert said(**turing) == "None"
    assert said(needs_bf16=True, **turing).startswith("training.precision: expected auto, fp16 or fp32 on a GPU")


@pytest.mark.parametrize(
    ("capability", "training", "teacher"),
    [((9, 0), "bf16", "bf16"), ((8, 0), "bf16", "bf16"), ((7, 5), "fp16", "fp32"), ((6, 1), "fp32", "fp32")],
)
def test_auto_is_what_the_tensor_cores_multiply(capability: Capability, training: str, teacher: str) -> None:
    precisions = A100.model_copy(update={"capability": capability}).precisions
    assert (precisions.training, precisions.teacher) == (training, teacher)


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 0), TURING_AND_LATER, True),
        ((8, 9), TURING_AND_LATER, True),  # code for 8.6
        ((7, 0), TURING_AND_LATER, False),
        ((6, 1), TURING_AND_LATER, False),
        ((11, 0), TURING_AND_LATER, False),
        ((11, 0), (*TURING_AND_LATER, "compute_90"), True),  # compiled when it is used
        ((9, 0), ("sm_80", "sm_90a"), True),
        ((8, 0), ("sm_86",), False),
        ((9, 4), ("gfx90a", "gfx942"), True),  # not NVIDIA's
        ((8, 0), (), True),
    ],
)
def test_code_runs_on_later_minor_versions(
    capability: tuple[int, int], architectures: tuple[str, ...], runs: bool
) -> None:
    assert has_kernels(capability, architectures) is runs
