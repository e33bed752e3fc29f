from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config

from benchmarks import gpu_folds
from benchmarks.gpu_section import Section, results_in, training


@pytest.fixture
def section(tmp_path: Path) -> Section:
    return Section("part", torch.device("cpu"), tmp_path, tmp_path, time.monotonic() + 100)


def results(section: Section) -> dict[str, str]:
    return {line["name"]: line["result"] for line in results_in(section.out) if "result" in line}


def test_folds_are_trained_as_a_worker_trains_them(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[Any] = []

    class Watched(gpu_folds.FoldTraining):
        def __init__(self, config: Any, *arguments: Any, kept: Any = None) -> None:
            began.append(kept)
            super().__init__(config, *arguments, kept=kept)

    monkeypatch.setattr(gpu_folds, "FoldTraining", Watched)
    monkeypatch.setattr(gpu_folds, "NUM_WHOLE", 2)
    frozen: list[None] = []
    monkeypatch.setattr(gpu_folds.gc, "freeze", lambda: frozen.append(None))
    gpu_folds.measure_folds(section, section.workload("small"))
    assert len(began) == 4
    assert all(kept is began[0] for kept in began), "one worker's networks"
    assert len(frozen) == 1
    assert {"gpu_outside_of_steps_effnet64", "gpu_kept_mb_effnet64"} <= set(results(section))


def test_steps_go_on_until_a_checkpoint_is_written(section: Section) -> None:
    class SlowDisk(gpu_folds.Checkpoints):
        def _write(self, *arguments: Any) -> None:
            time.sleep(0.3)
            super()._write(*arguments)

    fit = training(section, section.workload("small"), "l2")
    checkpoints = SlowDisk(section.scratch / "kept" / "fold.pt", 30.0)
    gpu_folds.added_by_a_checkpoint_s(fit, checkpoints, 1)
    assert checkpoints.path.exists()
    assert fit.step > 2
