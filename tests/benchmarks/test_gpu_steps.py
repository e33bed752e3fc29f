from __future__ import annotations

import argparse

import pytest
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from benchmarks.gpu_steps import CHANGES, FIRST_CHANGES, covered, events_on


@pytest.mark.parametrize(
    ("spans", "length"), [([], 0.0), ([(0, 2), (1, 3), (5, 6)], 4.0), ([(0, 9), (1, 2)], 9.0), ([(1, 1)], 0.0)]
)
def test_kernels_that_overlap_count_once(spans: list[tuple[float, float]], length: float) -> None:
    assert covered(spans) == length


def test_an_annotation_is_no_kernel() -> None:
    def event(name: str, device_type: DeviceType, is_user_annotation: bool) -> argparse.Namespace:
        return argparse.Namespace(name=name, device_type=device_type, is_user_annotation=is_user_annotation)

    events = [
        event("gemm", DeviceType.CUDA, False),
        event("Optimizer.step#SGD.step", DeviceType.CUDA, True),
        event("aten::mm", DeviceType.CPU, False),
    ]
    assert [each.name for each in events_on(DeviceType.CUDA, events)] == ["gemm"]  # type: ignore[arg-type]


def test_changes_that_are_measured_first_are_there() -> None:
    assert set(FIRST_CHANGES) <= set(CHANGES)
