from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from trainables.errors import BadInput, Problem
from tuner.cli.console import output_redirected_to
from tuner.cluster import connection as cluster_module
from tuner.cluster.connection import NUM_STARTS, check_store, cluster
from tuner.cluster.tasks import MAX_RETRIES, GpuOutOfMemory, WorkerFailed, as_completed, death_reason, put_shared
from tuner.experiment.settings import ResourceSettings
from tuner.messages.wording import one_line
from tuner.resources.share import Capacity, Share, num_cpus, share_of, total


def share(nodes: list[tuple[float, float]], concurrency: int | str = "auto", **asked: Any) -> Share:
    return share_of([Capacity(*node) for node in nodes], ResourceSettings(**asked), concurrency)


@pytest.mark.parametrize(
    ("nodes", "asked", "at_once"),
    [
        ([(16, 2)], {"cpus": 1, "gpus": 0.25}, 8),
        ([(4, 2)], {"cpus": 1, "gpus": 0.25}, 4),  # the CPUs are what is short
        ([(16, 1)], {"cpus": 1, "gpus": 0.34}, 2),
        ([(16, 2)], {"cpus": 1, "gpus": 0.4}, 4),
        ([(16, 2)], {"cpus": 1, "gpus": 0.6}, 2),  # a share lies on one card
        ([(16, 1)], {"cpus": 1, "gpus": 0.1}, 10),
        ([(16, 3)], {"cpus": 1, "gpus": 2}, 1),
        ([(16, 4)], {"cpus": 1, "gpus": 1}, 4),
        ([(2, 0)], {"cpus": 1}, 2),
        ([(3, 0)], {"cpus": 2}, 1),
        ([(1, 0)], {"cpus": 0.1}, 10),
        ([(3, 0), (3, 0)], {"cpus": 2}, 2),  # four cores would be left, but on two nodes
        ([(8, 1), (8, 2), (8, 0)], {"cpus": 1, "gpus": 0.5}, 6),  # nothing on the node without a card
        ([(0, 0), (4, 0)], {"cpus": 1}, 4),
    ],
)
def test_as_many_trials_as_fit(nodes: list[tuple[float, float]], asked: dict[str, float], at_once: int) -> None:
    assert share(nodes, **asked) == Share(asked["cpus"], asked.get("gpus", 0), at_once)


def test_without_a_gpu_trials_run_on_the_cpu_and_it_is_said() -> None:
    found = share([(2, 0), (4, 0)], cpus=1, gpus=0.25)
    assert (found.gpus, found.concurrency) == (0, 6)
    assert found.note == "resources.gpus is 0.25, but there is no GPU: trials run on the CPU"


class TestAuto:
    """A share that is measured: of a whole card until then, and of 1/k for the k trials that fit on one."""

    @pytest.mark.parametrize(
        ("nodes", "least", "concurrency", "gpus", "at_once"),
        [
            ([(64, 2)], 0.06, "auto", 1 / 16, 32),
            ([(64, 2)], 0.34, "auto", 1 / 2, 4),
            ([(64, 2)], 0.51, "auto", 1, 2),
            ([(8, 2)], 0.06, "auto", 1 / 4, 8),  # the CPUs admit no more, so that each gets more of a card
            ([(5, 2)], 0.06, "auto", 1 / 3, 5),
            ([(8, 2), (64, 2)], 0.06, "auto", 1 / 16, 40),  # the node with most CPUs says how many share a card
            ([(64, 2), (64, 0)], 0.06, "auto", 1 / 16, 32),
            ([(64, 2)], 0.06, 6, 1 / 3, 6),
            ([(64, 2)], 0.06, 1, 1, 1),
            ([(64, 2)], 1.0, 5, 1, 2),
        ],
    )
    def test_gives_as_much_as_nobody_else_needs(
        self, nodes: list[tuple[float, float]], least: float, concurrency: int | str, gpus: float, at_once: int
    ) -> None:
        whole = share(nodes, concurrency, gpus="auto")
        assert (whole.gpus, whole.is_auto) == (1, True)
        assert (whole.dividing_cards_by(least).gpus, whole.dividing_cards_by(least).concurrency) == (gpus, at_once)

    def test_grows_and_never_shrinks(self) -> None:
        quarter = share([(64, 2)], gpus="auto").dividing_cards_by(0.25)
        assert quarter.at_least(None) is quarter.at_least(0.1) is quarter
        assert (quarter.at_least(0.5).gpus, quarter.at_least(0.5).concurrency) == (0.5, 4)

    def test_a_number_does_not_grow(self) -> None:
        quarter = share([(64, 2)], gpus=0.25)
        assert not quarter.is_auto
        assert quarter.at_least(0.5) is quarter

    def test_without_a_gpu_trials_run_on_the_cpu(self) -> None:
        found = share([(2, 0)], gpus="auto")
        assert (found.gpus, found.concurrency, found.is_auto) == (0, 2, False)
        assert found.note == "resources.gpus is auto, but there is no GPU: trials run on the CPU"

    def test_must_have_cpus_beside_a_card(self) -> None:
        with pytest.raises(BadInput, match="got cpus: 4, gpus: auto"):
            share([(2, 1), (8, 0)], cpus=4, gpus="auto")

    def test_a_node_may_tell_its_kind_of_card(self) -> None:
        assert Capacity.of({"Resources": {"CPU": 4.0, "GPU": 2.0, "accelerator_type:T4": 1.0}}).card == "T4"
        assert Capacity.of({"Resources": {"CPU": 4.0, "GPU": 2.0}}) == Capacity(4, 2)


def test_the_concurrency_asked_for_is_kept() -> None:
    assert share([(8, 0)], concurrency=3, cpus=1).concurrency == 3


@pytest.mark.parametrize(
    ("nodes", "asked"), [([(2, 0)], {"cpus": 4}), ([(2, 0), (2, 0)], {"cpus": 3}), ([(8, 1)], {"cpus": 1, "gpus": 2})]
)
def test_a_trial_that_fits_nowhere_is_refused(nodes: list[tuple[float, float]], asked: dict[str, float]) -> None:
    with pytest.raises(
        BadInput, match=r"resources: expected a trial that fits on a node \(largest: .*\), got cpus: "
    ) as bad:
        share(nodes, **asked)
    assert f"cpus: {asked['cpus']}" in str(bad.value)


def test_the_nodes_together() -> None:
    assert str(total([Capacity(2, 0), Capacity(8, 2)])) == "10 CPUs and 2 GPUs on 2 nodes"
    assert str(Capacity(1.5, 0)) == "1.5 CPUs and 0 GPUs on 1 node"


def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("nobody there\nstack")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    said = r"--address: a Ray cluster answers there, got 10\.0\.0\.1:6379: nobody there"
    with pytest.raises(BadInput, match=said), cluster("10.0.0.1:6379"):
        pass


class SlowToStart:
    """A Ray of which a part does not come up in time, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int, store_bytes: float = 1e9) -> None:
        self.starts = 0
        self.failures = failures
        monkeypatch.setattr("ray.init", self.init)
        monkeypatch.setattr("ray.shutdown", lambda: None)
        resources = {"CPU": 2.0, "object_store_memory": store_bytes}
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": resources}])
        monkeypatch.setattr(os, "environ", os.environ.copy())

    def init(self, **options: Any) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise Exception("The current node timed out during startup.")


def test_a_start_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=NUM_STARTS - 1)
    with cluster(None) as nodes:
        assert nodes == [Capacity(2, 0)]
    assert slow.starts == NUM_STARTS


def test_a_machine_on_which_ray_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=99)
    with pytest.raises(BadInput, match="timed out during startup"), cluster(None):
        pass
    assert slow.starts == NUM_STARTS


def test_a_cluster_that_is_joined_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=99)
    with pytest.raises(BadInput), cluster("10.0.0.1:6379"):
        pass
    assert slow.starts == 1


class TestRoomForTheData:
    def test_is_looked_for_when_the_cluster_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        SlowToStart(monkeypatch, failures=0, store_bytes=5e8)
        said = r"data: decoded, the data fits into Ray's object store, 0\.50 GB \(.*data\.size_px.*\), got 0\.60 GB"
        with pytest.raises(BadInput, match=said), cluster(None, data_bytes=600_000_000):
            pass
        with cluster(None, data_bytes=400_000_000):
            pass

    @pytest.mark.parametrize(("stores", "fits"), [([3, 2], True), ([3, 1], False), ([0], False), ([], True)])
    def test_must_be_on_every_node(self, stores: list[int], fits: bool) -> None:
        nodes = [{"Resources": {"CPU": 1.0, "object_store_memory": float(store)}} for store in stores]
        head = {"Resources": {"object_store_memory": 0.0}}  # on which no trial runs
        if fits:
            check_store([*nodes, head], 2)
        else:
            with pytest.raises(BadInput):
                check_store([*nodes, head], 2)

    @pytest.mark.parametrize("error", [ObjectStoreFullError("full"), OutOfDiskError("full")])
    def test_that_runs_out_later_is_said(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def put(value: Any) -> None:
            raise error

        monkeypatch.setattr("ray.put", put)
        with pytest.raises(MemoryError, match=r"Ray's object store is full, and so is the disk behind it; take fewer"):
            put_shared([1])


class TestWhyAProcessDied:
    def test_says_what_its_code_raised(self) -> None:
        cause = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nMore.")
        raised = RayTaskError("train()", "Traceback", cause, "ray::train", 1, "127.0.0.1")
        said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB."
        assert death_reason(raised) == death_reason(raised.as_instanceof_cause()) == said

    @pytest.mark.parametrize("error", [ActorDiedError(), WorkerCrashedError()])
    def test_says_that_it_may_have_been_for_memory(self, error: Exception) -> None:
        assert death_reason(error).startswith(
            "its process crashed or was killed, as the kernel does where memory runs out"
        )

    def test_says_that_it_was_for_memory(self) -> None:
        ended = OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node ...")
        assert death_reason(ended).startswith("the node ran out of memory, and Ray ended the process (fewer trials")

    def test_says_what_else_there_was(self) -> None:
        assert death_reason(NodeDiedError("gone")) == "NodeDiedError: gone"
        assert death_reason(ActorUnavailableError("away", None)).startswith("ActorUnavailableError: ")
        assert death_reason(None) == "no reason known"


def test_one_line() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(MemoryError()) == "MemoryError"
    problems = [Problem("data.root", "images that decode", f"'{name}'") for name in "ab"]
    assert one_line(BadInput(problems[0])) == "data.root: expected images that decode, got 'a'"
    assert one_line(BadInput(problems)) == "data.root: expected images that decode, got 'a' (and 1 more)"


SPEAKER = """
import os, sys
from pathlib import Path
from tuner.cluster.connection import chatter_to
print("before", flush=True)
try:
    with chatter_to(Path("logs/driver.log")) as screen:
        print("python"); print("python's errors", file=sys.stderr)
        os.write(1, b"a library\\n"); os.system("echo a child; echo its errors >&2")
        print("for the user", file=screen)
        raise SystemExit("broke off")
finally:
    print("after", flush=True)
    print("errors after", file=sys.stderr)
"""


def test_chatter_goes_to_a_file_and_the_streams_come_back_whatever_happens(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SPEAKER], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout.splitlines() == ["before", "for the user", "after"]
    assert ended.stderr.splitlines() == ["errors after", "broke off"]
    log = (tmp_path / "logs" / "driver.log").read_text().splitlines()
    assert set(log) == {"python", "python's errors", "a library", "a child", "its errors"}


def test_chatter_is_appended_and_leaks_no_descriptor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with output_redirected_to(tmp_path / "log"):
            os.write(1, b"chatter\n")
    assert (tmp_path / "log").read_text() == "chatter\nchatter\n"
    assert len(os.listdir("/proc/self/fd")) == open_before


class FakeRay:
    """Tasks run when they are waited for, the latest first; counts how many are under way."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.options: dict[str, Any] = {}
        self.cancelled: list[Any] = []

    def cancel(self, reference: Any, force: bool) -> None:
        assert force
        self.cancelled.append(reference)

    def remote(self, **given: Any) -> Any:
        self.options = given
        return lambda task: SimpleNamespace(remote=lambda *job: (task, job))

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self.most_at_once = max(self.most_at_once, len(running))
        return [running[-1]], running[:-1]

    def get(self, reference: Any) -> Any:
        task, job = reference
        return task(*job)


@pytest.mark.parametrize("concurrency", [1, 2, 9])
def test_jobs_run_as_many_at_a_time_as_the_share_says(monkeypatch: pytest.MonkeyPatch, concurrency: int) -> None:
    fake = FakeRay()
    monkeypatch.setattr(cluster_module, "ray", fake)
    jobs = ((number, 10) for number in range(5))
    sums = list(as_completed(lambda a, b: a + b, jobs, Share(2, 0.5, concurrency)))
    assert sorted(sums) == [10, 11, 12, 13, 14]
    assert fake.most_at_once == min(concurrency, 5)
    assert fake.options == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": MAX_RETRIES, "max_calls": 1}


def test_a_job_whose_process_died_too_often_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise WorkerCrashedError

    monkeypatch.setattr(cluster_module, "ray", FakeRay())
    with pytest.raises(WorkerFailed, match="its process crashed or was killed"):
        list(as_completed(die, [()], Share(1, 0, 1)))


def test_a_job_whose_card_is_full_ends_the_others_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(number: int) -> None:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        raise RayTaskError("run", "Traceback", error)

    fake = FakeRay()
    monkeypatch.setattr(cluster_module, "ray", fake)
    with pytest.raises(GpuOutOfMemory, match="CUDA out of memory"):
        list(as_completed(run, [(0,), (1,)], Share(1, 0.5, 2), accelerator="T4"))
    assert [job for _, job in fake.cancelled] == [(0,)]
    assert fake.options["accelerator_type"] == "T4"


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_a_container_has_no_more_cores_than_its_quota(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert num_cpus(tmp_path) == (cores or len(os.sched_getaffinity(0)))
    assert num_cpus(tmp_path / "without") == len(os.sched_getaffinity(0))
