from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainables.errors import BadInput
from tuner import cluster as cluster_module
from tuner.cluster import MAX_RETRIES, Capacity, Share, as_they_end, chatter_to, cluster, num_cpus, share_of, total
from tuner.settings import ResourceSettings


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


def test_the_concurrency_asked_for_is_kept() -> None:
    assert share([(8, 0)], concurrency=3, cpus=1).concurrency == 3


@pytest.mark.parametrize(
    ("nodes", "asked"), [([(2, 0)], {"cpus": 4}), ([(2, 0), (2, 0)], {"cpus": 3}), ([(8, 1)], {"cpus": 1, "gpus": 2})]
)
def test_a_trial_that_fits_nowhere_is_refused(nodes: list[tuple[float, float]], asked: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"resources: one trial fits on a node \(largest: .*\), got cpus: ") as bad:
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


SPEAKER = """
import os, sys
from pathlib import Path
from tuner.cluster import chatter_to
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
        with chatter_to(tmp_path / "log"):
            os.write(1, b"chatter\n")
    assert (tmp_path / "log").read_text() == "chatter\nchatter\n"
    assert len(os.listdir("/proc/self/fd")) == open_before


class FakeRay:
    """Tasks run when they are waited for, the latest first; counts how many are under way."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.options: dict[str, Any] = {}

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
    sums = list(as_they_end(lambda a, b: a + b, jobs, Share(2, 0.5, concurrency)))
    assert sorted(sums) == [10, 11, 12, 13, 14]
    assert fake.most_at_once == min(concurrency, 5)
    assert fake.options == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": MAX_RETRIES, "max_calls": 1}


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_a_container_has_no_more_cores_than_its_quota(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert num_cpus(tmp_path) == (cores or len(os.sched_getaffinity(0)))
    assert num_cpus(tmp_path / "without") == len(os.sched_getaffinity(0))
