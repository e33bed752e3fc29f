from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from benchmarks import gpu_rightness
from benchmarks.gpu_rightness import GRADIENT_LIMIT, first_gradient, judge_errors, num_folded, relative_difference
from benchmarks.gpu_section import IN_REHEARSAL, Section, results_in, training
from trainables.methods import METHODS
from trainables.methods.base import Method


@pytest.fixture
def section(tmp_path: Path) -> Section:
    return Section("part", torch.device("cpu"), tmp_path, tmp_path, time.monotonic() + 100)


def results(section: Section) -> dict[str, str]:
    return {line["name"]: line["result"] for line in results_in(section.out) if "result" in line}


@pytest.mark.parametrize("method", METHODS)
def test_rounding_errors_leave_a_gradient_within_its_limit(
    method: str, section: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that differ in their last bits stand for a card that sums in another order."""

    def gradient() -> torch.Tensor:
        return first_gradient(training(section, IN_REHEARSAL["small"], method, "fp32"))

    def rounded(method: Method) -> None:
        in_float64(method)
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter.mul_(1 + 1e-15 * torch.randn_like(parameter))

    exact, in_float64 = gradient(), gpu_rightness.in_float64
    monkeypatch.setattr(gpu_rightness, "in_float64", rounded)
    assert 0 < relative_difference(gradient(), exact) < GRADIENT_LIMIT / 100


def test_densenet_is_folded_as_a_method_folds_it() -> None:
    assert num_folded("torchvision/densenet121", 64, torch.device("cpu")) == 59


OURS = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")
THEIRS = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
UNKNOWN = RuntimeError("CUFFT_INTERNAL_ERROR")


@pytest.mark.parametrize(
    ("errors", "by_libraries", "unknown"),
    [([OURS, THEIRS], "ok", "ok"), ([OURS], "short", "ok"), ([OURS, THEIRS, UNKNOWN], "ok", "short")],
)
def test_errors_of_libraries_are_needed_and_have_to_be_recognised(
    errors: list[RuntimeError], by_libraries: str, unknown: str, section: Section
) -> None:
    judge_errors(section, errors)
    assert results(section) == {
        "gpu_right_out_of_memory_seen": "ok",
        "gpu_right_out_of_memory_by_libraries": by_libraries,
        "gpu_right_out_of_memory_unknown": unknown,
    }
