from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config

from benchmarks import gpu_compile
from benchmarks.gpu_compile import ModeProcess
from benchmarks.gpu_section import Section, results_in


@pytest.fixture
def section(tmp_path: Path) -> Section:
    return Section("part", torch.device("cpu"), tmp_path, tmp_path, time.monotonic() + 100)


def values(section: Section) -> dict[str, Any]:
    return {line["name"]: line["value"] for line in results_in(section.out)}


def ends_well(section: Section, mode: str, parent: Connection) -> None:
    parent.send("compiled")
    assert parent.recv() == "measure"
    section.value(f"threads_{mode}", torch._inductor.config.compile_threads, "")


def hangs(section: Section, mode: str, parent: Connection) -> None:
    time.sleep(60)


def hangs_late(section: Section, mode: str, parent: Connection) -> None:
    parent.send("compiled")
    time.sleep(60)


def crashes(section: Section, mode: str, parent: Connection) -> None:
    os._exit(3)


def reports(section: Section, mode: str, parent: Connection) -> None:
    """Breaks off with a failed figure of its own."""


@pytest.mark.parametrize(
    ("process", "failed"),
    [
        (ends_well, []),
        (hangs, ["it did not end in time"]),
        (hangs_late, ["it did not end in time"]),
        (crashes, ["exit code 3"]),
        (reports, []),
    ],
)
def test_a_mode_that_breaks_off_is_a_failed_figure(
    process: Callable[[Section, str, Connection], None],
    failed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_compile, "MODES", ("default",))
    monkeypatch.setattr(gpu_compile, "run_mode", process)
    ours = Section("compile", torch.device("cpu"), tmp_path, tmp_path, time.monotonic() + 3)
    gpu_compile.run(ours)
    reasons = [line["reason"] for line in results_in(tmp_path) if line.get("result") == "failed"]
    assert reasons == [f"RuntimeError: {reason}" for reason in failed]


def test_modes_are_measured_one_after_the_other(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    def measures(section: Section, mode: str, parent: Connection) -> None:
        parent.send("compiled")
        parent.recv()
        section.value(f"{mode} began", time.monotonic(), "s")
        time.sleep(0.3)
        section.value(f"{mode} ended", time.monotonic(), "s")

    monkeypatch.setattr(gpu_compile, "run_mode", measures)
    gpu_compile.run(section)
    one, other = gpu_compile.MODES
    assert values(section)[f"{one} ended"] <= values(section)[f"{other} began"]


def test_a_mode_compiles_with_its_share_of_the_cores(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(section: Section, mode: str, wait_for_turn: Callable[[], None]) -> None:
        section.value("threads", torch._inductor.config.compile_threads, "")

    monkeypatch.setattr(gpu_compile, "measure", measure)
    monkeypatch.setattr(gpu_compile.os, "cpu_count", lambda: 6)
    process = ModeProcess(section, multiprocessing.get_context("fork"), "default")
    process.wait_until_compiled()
    assert values(section) == {"threads": 3}
    assert not process.is_compiled
