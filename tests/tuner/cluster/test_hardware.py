"""What a command trains on, and what `auto` is there; workers are replaced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tuner.cluster import hardware
from tuner.cluster.hardware import ProcessorFacts, inspect_hardware, inspect_processor
from tuner.cluster.tasks import WorkerFailed
from tuner.experiment.precision import Precisions
from tuner.resources.share import Capacity, Share

EPYC = ProcessorFacts(name="AMD EPYC 9B14", torch="2.9", has_fast_bf16=True)
XEON = ProcessorFacts(name="Intel Xeon", torch="2.9", has_fast_bf16=False)
NODES = [Capacity(8, 0)]


def on_nodes(monkeypatch: pytest.MonkeyPatch, *found: ProcessorFacts | WorkerFailed) -> None:
    def on_each_node(task: Any, nodes: Iterable[str]) -> list[Any]:
        assert task is inspect_processor
        assert list(nodes) == ["1", "2", "3"][: len(found)]
        for each in found:
            if isinstance(each, WorkerFailed):
                raise each
        return list(found)

    nodes = [{"NodeID": str(number), "Resources": {"CPU": 2.0}} for number, _ in enumerate(found, start=1)]
    head = {"NodeID": "head", "Resources": {}}
    monkeypatch.setattr(hardware, "alive_nodes", lambda: [head, *nodes])
    monkeypatch.setattr(hardware, "on_each_node", on_each_node)


def test_without_gpus_it_is_the_processor_of_this_machine() -> None:
    share = inspect_hardware(Share(2, 0, 4), NODES, {}, is_local=True)
    facts = inspect_processor()
    assert share.devices == (f"{facts.name}, 2 threads a trial, PyTorch {facts.torch}",)
    assert share.precisions == facts.precisions
    assert share.precisions.training == "fp32"


def test_of_a_cluster_it_is_that_of_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    on_nodes(monkeypatch, EPYC, EPYC)
    share = inspect_hardware(Share(1, 0, 4), NODES, {}, is_local=False)
    assert share.devices == ("AMD EPYC 9B14, 1 thread a trial, PyTorch 2.9",)
    assert share.precisions == Precisions(teacher="bf16")


def test_a_teacher_has_one_precision_on_different_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    on_nodes(monkeypatch, EPYC, XEON, EPYC)
    share = inspect_hardware(Share(1, 0, 4), NODES, {}, is_local=False)
    assert len(share.devices) == 2
    assert share.precisions == Precisions(teacher="fp32")


def test_nodes_that_do_not_answer_are_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    on_nodes(monkeypatch, WorkerFailed("Get timed out"))
    assert inspect_hardware(Share(1, 0, 4), NODES, {}, is_local=False) == Share(1, 0, 4)


def test_gpus_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(hardware, "check_gpus", lambda *arguments: given.append(arguments) or arguments[0])
    share = Share(1, 0.5, 4)
    assert inspect_hardware(share, NODES, {"name": "x"}, is_local=True, say=print) is share
    assert given == [(share, NODES, {"name": "x"}, print)]
