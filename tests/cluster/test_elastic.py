"""Searches on clusters that grow, lose nodes, have several kinds of GPUs, or others at work on them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import GPU_SHARE, Cluster, address_of, ended, new_client, until
from tests.cluster.test_cluster import all_complete
from tuner.scheduling.scheduler import MAX_LOST_WORKERS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

NewCluster = Callable[..., Cluster]
A_NODE = round(1 / GPU_SHARE)

HOLD = """
import ray, sys, time
ray.init(address="127.0.0.1:6379", log_to_driver=False)
gpus, kinds = float(sys.argv[1]), sys.argv[2:]
@ray.remote(num_cpus=0, num_gpus=gpus)
class Holder:
    def here(self):
        return True
holders = [Holder.options(accelerator_type=kind or None).remote() for kind in kinds]
ray.get([holder.here.remote() for holder in holders])
print("held", flush=True)
time.sleep(1e6)
"""


JOBS = """
import sys, time
from pathlib import Path
import ray
from tuner.cluster.capacity import LiveCapacity
from tuner.cluster.connection import cluster
from tuner.cluster.tasks import as_completed
from tuner.experiment.settings import ResourceSettings
from tuner.resources.share import share_of

def wait_at(gate, number):
    (gate / str(number)).write_text(ray.util.get_node_ip_address())
    while not (gate / "open").exists():
        time.sleep(0.1)
    return number

gate, gpus, num_jobs = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
with cluster("127.0.0.1:6379") as nodes:
    share = share_of(nodes, ResourceSettings(gpus=gpus), "auto")
    jobs = [(gate, number) for number in range(num_jobs)]
    print(sorted(as_completed(wait_at, jobs, share, capacity=LiveCapacity(share))))
"""


def test_a_cluster_grows_and_shrinks_during_a_search(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=1, RAY_NODE_TYPE_NAME="workers")  # as an operator's or an autoscaler's
    user = new_client(cluster, trials=4 * A_NODE)
    job = user.submit("growing")
    until(lambda: len(user.at_gate()) == A_NODE, job)
    # Those of one more node wait, which is what an autoscaler goes by.
    until(lambda: Counter(user.kinds("growing"))["trial_started"] == 2 * A_NODE, job)
    cluster.start_worker(3)
    until(lambda: len(user.at_gate()) == 2 * A_NODE, job)
    until(lambda: Counter(user.kinds("growing"))["trial_started"] == 3 * A_NODE, job)
    assert Counter(node for _, _, node, _ in user.at_gate()) == {address_of(2): A_NODE, address_of(3): A_NODE}
    cluster.kill_node(3)
    until(lambda: f"room for {A_NODE} trials at once" in user.give("logs", "growing"), job)
    user.open()
    said = ended(job)
    rooms = re.findall(r"the cluster has changed: room for (\d+) trials at once", said)
    assert rooms == [str(2 * A_NODE), str(A_NODE)], said
    assert all_complete(user.events("growing")) == 4 * A_NODE
    cluster.end()


def test_a_cluster_grows_during_retrainings_and_comparisons(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster(workers=1)
    job = cluster.popen("python", "-c", JOBS, str(tmp_path), str(GPU_SHARE), str(2 * A_NODE))

    def nodes() -> Counter[str]:
        return Counter(path.read_text() for path in tmp_path.glob("[0-9]*"))

    until(lambda: nodes().total() == A_NODE, job)
    cluster.start_worker(3)
    until(lambda: nodes() == {address_of(2): A_NODE, address_of(3): A_NODE}, job)
    (tmp_path / "open").touch()
    assert str(list(range(2 * A_NODE))) in ended(job)
    cluster.end()


def test_lost_nodes_are_no_fault_of_a_trial(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=1)
    user = new_client(cluster, trials=2)
    job = user.submit("spot")
    last = 2 + MAX_LOST_WORKERS + 1

    def are_on(node: int) -> bool:
        return {trial for trial, _, where, _ in user.at_gate() if where == address_of(node)} >= {0, 1}

    for node in range(2, last):
        until(lambda node=node: are_on(node), job)  # type: ignore[misc]
        cluster.start_worker(node + 1)
        cluster.kill_node(node)
    until(lambda: are_on(last), job)
    user.open()
    ended(job)
    assert all_complete(user.events("spot")) == 2
    cluster.end()


def test_each_kind_of_gpu_has_its_own_fraction_also_where_half_of_each_is_taken(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=0)
    for node, kind in ((2, "H100"), (3, "T4")):
        cluster.start_worker(node, kind=kind)
    user = new_client(cluster, trials=8, gpus="auto")
    job = user.submit("kinds")
    until(lambda: len(user.at_gate()) == 4 + 2, job)
    assert Counter(node for _, _, node, _ in user.at_gate()) == {address_of(2): 4, address_of(3): 2}
    user.open()
    said = ended(job)
    assert "of 16.0 GiB; 0.25, 4 trials on each H100; 0.5, 2 trials on each T4" in said, said
    assert all_complete(user.events("kinds")) == 8

    hold(cluster, 0.5, "H100", "T4")
    user.open()
    said = ended(user.submit("crowded"))
    assert "of 16.0 GiB (measured in 0.5 of one, as none was free); " in said, said
    assert all_complete(user.events("crowded")) == 8
    cluster.end()


def hold(cluster: Cluster, gpus: float, *kinds: str) -> subprocess.Popen[str]:
    """Holds a part of a GPU of each of these kinds ("": any) until the process ends."""
    holder = cluster.popen("python", "-c", HOLD, str(gpus), *kinds)
    until_said("held", holder)
    return holder


def until_said(words: str, process: subprocess.Popen[str]) -> None:
    """Reads the lines of a process up to one with these words."""
    said = process.stdout
    assert said is not None
    until(lambda: words in said.readline(), process)


def test_a_search_says_that_it_waits_for_gpus_and_begins_when_they_are_free(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=1)
    holder = hold(cluster, 1, "")
    user = new_client(cluster, trials=2, gpus="auto")
    job = user.submit("queued")
    waits = "waiting for 1 CPU and 0.05 GPUs on one node: other work of the cluster has them"
    until_said(waits, job)
    user.open()
    holder.kill()
    ended(job)
    assert all_complete(user.events("queued")) == 2
    cluster.end()
