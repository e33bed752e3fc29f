from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config

from benchmarks import gpu_sharing
from benchmarks.gpu_section import Section, results_in
from benchmarks.gpu_sharing import Memory, counts_of, those_ready


@pytest.fixture
def section(tmp_path: Path) -> Section:
    return Section("part", torch.device("cpu"), tmp_path, tmp_path, time.monotonic() + 100)


def values(section: Section) -> dict[str, Any]:
    return {line["name"]: line["value"] for line in results_in(section.out)}


@pytest.fixture
def answering() -> Iterator[Callable[..., Connection]]:
    """Makes the connection of a process that has given these answers, or has ended after them."""
    kept: list[Connection] = []

    def answering(*answers: object, has_ended: bool = False) -> Connection:
        ours, theirs = multiprocessing.Pipe()
        kept.append(theirs)
        for answer in answers:
            theirs.send(answer)
        if has_ended:
            theirs.close()
        return ours

    yield answering
    for each in kept:
        each.close()


def test_processes_that_have_room_train_without_the_others(
    answering: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sharing, "STARTED_WITHIN_S", 0.2)
    memory = Memory(1, 2)
    ready, full, hung = answering(7, memory), answering("CUDA out of memory"), answering()
    workers = [ready, full, hung]
    assert those_ready(workers, "large") == {ready: memory}, "the 7 is of a window before"
    assert workers == [ready, full], "one without room may have it for the next network"
    with pytest.raises(RuntimeError, match="no process can train it: CUDA out of memory"):
        those_ready([answering("CUDA out of memory")], "large")


@pytest.mark.parametrize(
    ("key", "most", "counts"), [("large", 8, [1, 8, 4, 2]), ("large", 5, [1, 5, 4, 2]), ("medium", 2, [1, 2])]
)
def test_the_figure_comes_before_what_is_between(key: str, most: int, counts: list[int]) -> None:
    assert counts_of(key, most) == counts


def test_a_process_without_room_gives_back_what_it_has(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: dict[str, Any] = {}

    class Full:
        def run(self, until: int) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_sharing, "training", lambda *arguments: Full())
    said = gpu_sharing.started(section, section.workload("large"), "large", fits)
    assert said == "OutOfMemoryError: CUDA out of memory"
    gpu_sharing.give_back(fits, section.device)
    assert fits == {}


def test_memory_of_the_card_is_shared_among_its_processes(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1 << 30
    monkeypatch.setattr(gpu_sharing, "card_bytes_in_use", lambda: 10 * gib)
    gpu_sharing.report_memory(section, [Memory(2 * gib, 3 * gib), Memory(gib, 2 * gib)], "net", empty=6 * gib)
    assert values(section) == {
        "peak_gib_of_a_process_net": 3.0,
        "card_gib_of_2_net": 10.0,
        "context_gib_of_a_process_net": 0.5,
    }


def test_what_mps_gains_is_written(section: Section) -> None:
    section.value("images_net_of_1", 100.0, "images/s")
    gpu_sharing.report_gain(section, "net", "_mps", {1: 110.0, 8: 50.0})
    assert values(section) == {"images_net_of_1": 100.0, "mps_over_slicing_net_of_1": 1.1}
