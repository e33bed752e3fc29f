from __future__ import annotations

import argparse

import pytest

from benchmarks import gpu_data
from benchmarks.gpu_data import BATCHES_A_WORKER, num_loader_workers
from benchmarks.gpu_section import ON_A_CARD


def test_a_usual_loop_has_as_many_workers_as_shared_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 64 << 20

    def disk_usage(path: str) -> argparse.Namespace:
        if path != "/dev/shm":
            raise FileNotFoundError(path)
        return argparse.Namespace(free=free)

    monkeypatch.setattr(gpu_data.shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(gpu_data.os, "cpu_count", lambda: 16)
    small, large = ON_A_CARD["small"], ON_A_CARD["large"]
    assert num_loader_workers(large, 14) == 0, "three batches of 28.9 MB have no room: the loop cuts them itself"
    assert num_loader_workers(small, 14) == 14
    assert num_loader_workers(large, 14, "/nowhere") == 14
    free = BATCHES_A_WORKER * 48 * 3 * 224**2 * 4 * 5
    assert num_loader_workers(large, 14) == 5
