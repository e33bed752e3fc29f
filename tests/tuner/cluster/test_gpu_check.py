"""GPUs are inspected before the first trial, by workers that are replaced here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from trainables.precision import ComputedPrecision
from tuner.cluster import gpu_check
from tuner.cluster.gpu_check import asks_for_bf16, check_gpus, inspect_gpu, nvidia_driver, train_a_step
from tuner.cluster.tasks import WorkerFailed
from tuner.experiment.precision import Precisions
from tuner.resources.gpu_facts import GpuFacts
from tuner.resources.share import Capacity, Share

GOOD = GpuFacts(node="a", torch="2.9", cuda="13.0", name="NVIDIA L4", capability=(8, 9), driver="580.1")
SHARE = Share(1, 0.25, 8)
NODES = [Capacity(8, 1, accelerator_type="L4"), Capacity(8, 1, accelerator_type="T4"), Capacity(8, 0)]


class Workers:
    """Workers by the kind of their GPU, each with what it finds there, or how it dies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **found: GpuFacts | WorkerFailed) -> None:
        self.found = found
        self.asked: list[tuple[str, float, int]] = []
        self.rooms: list[tuple[str, float]] = []
        monkeypatch.setattr(gpu_check, "as_completed", self.as_completed)
        monkeypatch.setattr(gpu_check, "reserved", self.reserved)

    @contextlib.contextmanager
    def reserved(self, share: Share, accelerator: str, say: Any) -> Iterator[tuple[str, float]]:
        self.rooms.append((accelerator, share.gpus))
        yield self.rooms[-1]
        self.rooms.pop()

    def as_completed(self, task: Any, jobs: list[Any], share: Share, accelerator: str, room: Any) -> Iterator[GpuFacts]:
        assert self.rooms == [room] == [(accelerator, share.gpus)]
        assert task is inspect_gpu
        assert jobs == [()]
        self.asked.append((accelerator, share.gpus, share.concurrency))
        found = self.found[accelerator]
        if isinstance(found, WorkerFailed):
            raise found
        yield found


def test_one_of_each_kind_is_inspected_with_the_share_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(monkeypatch, L4=GOOD, T4=GOOD.model_copy(update={"name": "Tesla T4", "capability": (7, 5)}))
    share = check_gpus(SHARE, NODES, space_of().as_tree(), print)
    assert workers.asked == [("L4", 0.25, 1), ("T4", 0.25, 1)]
    assert share.devices == (
        "NVIDIA L4 (compute capability 8.9, TF32, driver 580.1), PyTorch 2.9",
        "Tesla T4 (compute capability 7.5, driver 580.1), PyTorch 2.9",
    )
    assert share.precisions == Precisions(training="fp16", teacher="fp32")  # of the older one, for all workers
    assert (share.gpus, share.concurrency) == (0.25, 8)


def test_a_kind_on_whose_nodes_no_trial_fits_is_named_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, said = Workers(monkeypatch, L4=GOOD), list[str]()
    nodes = [*NODES[:1], Capacity(1, 4, accelerator_type="T4"), Capacity(0, 1)]
    check_gpus(replace(SHARE, cpus=2), nodes, {}, said.append)
    assert [kind for kind, _, _ in workers.asked] == ["L4"]
    assert said == [
        "GPUs not used: no trial of 2 CPUs fits on their nodes",
        "T4 not used: no trial of 2 CPUs fits on their nodes",
    ]


def test_without_gpus_nothing_is_inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(monkeypatch)
    assert check_gpus(Share(1, 0, 8), NODES, {}, print) == Share(1, 0, 8)
    assert workers.asked == []


def test_every_kind_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = GOOD.model_copy(update={"failure": "RuntimeError: CUDA unknown error"})
    Workers(monkeypatch, L4=broken, T4=WorkerFailed("its process crashed or was killed"))
    with pytest.raises(BadInput) as bad:
        check_gpus(SHARE, NODES, {}, print)
    first, second = map(str, bad.value.problems)
    assert first.endswith("on a: RuntimeError: CUDA unknown error")
    assert second.endswith("a GPU on which a process starts, got T4: its process crashed or was killed")


def test_bf16_is_refused_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    Workers(monkeypatch, T4=GOOD.model_copy(update={"capability": (7, 5)}))
    check_gpus(SHARE, NODES[1:], space_of().as_tree(), print)
    with pytest.raises(
        BadInput, match=r"training\.precision: expected auto, fp16 or fp32 on a GPU that only emulates bf16"
    ):
        check_gpus(SHARE, NODES[1:], space_of(training__precision={"choice": ["fp32", "bf16"]}).as_tree(), print)


@pytest.mark.parametrize(
    ("tree", "asks"),
    [
        ({"training": {"precision": "bf16"}}, True),
        ({"training": {"choice": [{"precision": "fp32"}, {"precision": "bf16"}]}}, True),
        ({"compare": {"rows": [{"training.precision": "bf16"}]}}, True),
        ({"training": {"precision": "fp32"}, "method": {"teacher_precision": "bf16"}}, False),
        ({}, False),
    ],
)
def test_who_asks_for_bf16(tree: dict[str, Any], asks: bool) -> None:
    assert asks_for_bf16(tree) is asks


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_step_is_trained_in_both_precisions(precision: ComputedPrecision) -> None:
    loss = train_a_step(torch.device("cpu"), precision)
    assert loss == pytest.approx(2 * torch.log(torch.tensor(2.0)).item(), rel=0.05)  # two classes, small weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_without_a_gpu_says_so() -> None:
    facts = inspect_gpu()
    assert facts.failure
    assert facts.problem() is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_trains_is_no_problem() -> None:
    facts = inspect_gpu()
    assert facts.problem() is None
    assert facts.name == torch.cuda.get_device_name()
    assert facts.driver


def test_the_driver_is_that_of_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root@host)  Sun Jul 27\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    assert nvidia_driver(file) == "580.65.06"
    assert nvidia_driver(tmp_path / "none") == ""
