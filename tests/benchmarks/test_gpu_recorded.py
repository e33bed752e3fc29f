from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_rightness, gpu_steps
from benchmarks.gpu_section import Section, results_in, training
from tests.trainables.training.tape import Tape
from trainables.training import loop
from trainables.training.config import TrainingConfig
from trainables.training.graph import RecordedSteps
from trainables.training.loop import Fit

CUDA = torch.device("cuda")


@pytest.fixture
def section(tmp_path: Path) -> Section:
    return Section("", torch.device("cpu"), tmp_path, tmp_path, time.monotonic() + 100)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """The trainings of `gpu_rightness`, which read at ends of intervals whether all is finite, as on a GPU."""
    fits: list[Fit] = []

    def noted(*given: Any, **options: Any) -> Fit:
        fits.append(training(*given, **options))
        fits[-1].finite.defers = True
        return fits[-1]

    monkeypatch.setattr(gpu_rightness, "training", noted)
    return fits


def test_a_resume_is_compared_with_deterministic_kernels(section: Section, trainings: list[Fit]) -> None:
    """By the setting: a training that lacks it has other kernels, whatever is chosen outside of it."""
    gpu_rightness.resumed_equals_undisturbed(section)
    assert [fit.config.deterministic for fit in trainings] == [True] * 3
    assert [line["value"] for line in results_in(section.out)] == [0]


class Idle(Tape):
    """Recordings that do nothing when they are replayed."""

    def record(self, operations: Callable[[], None]) -> Callable[[], None]:
        super().record(operations)
        return lambda: None


@pytest.mark.parametrize(("recorder", "result"), [(Tape, "ok"), (Idle, "short")])
def test_recorded_steps_are_compared_with_computed_ones(
    recorder: type[Tape], result: str, section: Section, trainings: list[Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "recorder_for", lambda method, config, device: recorder() if config.cuda_graphs else None)
    gpu_rightness.recorded_equals_computed(section, "l2")
    recorded, computed = trainings
    assert isinstance(recorded.runner, RecordedSteps)
    assert recorded.runner.num_recordings
    assert recorded.step == computed.step == recorded.num_steps
    assert [(line["name"], line["result"]) for line in results_in(section.out)] == [("gpu_right_recorded_l2", result)]


def test_a_change_of_kernels_is_in_force_within_a_training() -> None:
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    config = TrainingConfig(num_steps=1)
    with loop.kernels(config, CUDA, shapes_are_constant=True):
        assert torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "high"
    for choose in (gpu_steps.take_first_algorithms, gpu_steps.multiply_in_fp32):
        with gpu_steps.within_kernels(choose), loop.kernels(config, CUDA, shapes_are_constant=True):
            assert torch.backends.cudnn.benchmark == (choose is not gpu_steps.take_first_algorithms)
            assert (torch.get_float32_matmul_precision() == "high") == (choose is not gpu_steps.multiply_in_fp32)
    assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == before
