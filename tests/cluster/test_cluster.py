"""Searches on a cluster of real processes, submitted as a user submits them. Every search trains."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import (
    ADDRESS,
    GPU_SHARE,
    NUM_FOLDS,
    Cluster,
    address_of,
    ended,
    new_client,
    until,
)
from tuner.record.events import Event, FoldFinished, SearchEnded, TrialEnded
from tuner.record.lines import read_events

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

NewCluster = Callable[..., Cluster]
AT_ONCE = round(2 / GPU_SHARE)


def test_submit_follow_result(cluster: Cluster) -> None:
    user = new_client(cluster)
    user.open()
    said = ended(user.submit("first"))
    assert re.search(r"sending \d+ files, \d\.\d MiB \(\d\.\d MiB packed\) to http://127.0.0.1:8265", said), said
    assert "8 CPUs and 2 GPUs on 3 nodes" in said
    assert "tiny: 3 complete trials in" in said, said
    assert said.rstrip().endswith("python -m deploy.submit result first --address http://127.0.0.1:8265")
    assert Counter(user.kinds("first"))["fold_finished"] == 3 * NUM_FOLDS
    check_results(user.project / "results" / "first", user.give("result", "first"))
    # Where the shared folder is not seen, the command says where they are. A mount of its own hides the folder.
    hidden = f"mount -t tmpfs none {cluster.shared} && exec python -m deploy.submit result first --to far"
    far = cluster.popen("unshare", "--mount", "sh", "-c", f"{hidden} --address {ADDRESS}", cwd=user.project)
    said = ended(far, code=1)
    assert f"its results are in {cluster.shared}/first on the cluster: " in said, said
    assert not (user.project / "far").exists()
    job = json.loads(user.give("status", "first", "--json"))
    assert (job["status"], job["user"], job["trials"]) == ("SUCCEEDED", "ada", 3)
    ended(user.submit("first"), code=2)  # a name is used once


def check_results(folder: Path, said: str) -> None:
    assert ": model, report and record\n" in said
    assert (folder / "space.yaml").exists()
    assert list((folder / "model").rglob("*"))


def test_eight_trials_at_a_quarter_of_two_cards(cluster: Cluster) -> None:
    user = new_client(cluster, trials=AT_ONCE + 2)
    job = user.submit("eight")
    until(lambda: len(user.at_gate()) == AT_ONCE, job)
    nodes = Counter(node for _, _, node, _ in user.at_gate())
    assert nodes == {address_of(2): AT_ONCE // 2, address_of(3): AT_ONCE // 2}
    assert {card for *_, card in user.at_gate()} == {"0"}  # each node has one
    assert Counter(user.kinds("eight"))["trial_started"] == AT_ONCE
    user.open()
    ended(job)
    assert all_complete(user.events("eight")) == AT_ONCE + 2


def all_complete(events: list[Event]) -> int:
    """The number of trials, each of which is complete, with every fold once."""
    folds = Counter((event.trial, event.result.fold) for event in events if isinstance(event, FoldFinished))
    assert set(folds.values()) == {1}
    ends = {event.trial: event.state for event in events if isinstance(event, TrialEnded)}
    assert set(ends.values()) == {"complete"}
    assert folds.keys() == {(trial, fold) for trial in ends for fold in range(1, NUM_FOLDS + 1)}
    return len(ends)


def test_client_killed_and_taken_up_again(cluster: Cluster) -> None:
    user = new_client(cluster)
    job = user.submit("orphan")
    until(lambda: user.at_gate(), job)
    job.kill()
    ended(job, code=-signal.SIGKILL)
    assert json.loads(user.give("status", "orphan", "--json"))["status"] == "RUNNING"
    again = user.popen("logs", "-f", "orphan")
    user.open()
    said = ended(again)
    assert (
        said.count("Running entrypoint for job orphan: exec python -m tuner.search")
        == said.count("tiny: 3 complete trials in")
        == 1
    )
    assert "orphan succeeded" in said


def test_ctrl_c_lets_go_and_stop_ends_as_ctrl_c_would(cluster: Cluster) -> None:
    user = new_client(cluster)
    user.open(fold=1)
    job = user.submit("halted")
    until(lambda: "fold_finished" in user.kinds("halted"), job)
    job.send_signal(signal.SIGINT)
    assert "halted goes on without this command" in ended(job)
    follower = user.popen("logs", "-f", "halted")
    said = user.give("stop", "halted")
    assert "halted is stopped; go on with: python -m deploy.submit --space tiny.yaml --resume halted" in said
    assert "interrupted: every finished fold is kept in" in ended(follower, code=4)
    before = user.events("halted")
    assert isinstance(before[-1], SearchEnded)
    assert before[-1].outcome == "interrupted"
    user.open()
    user.give("--space", "tiny.yaml", "--resume", "halted", "--trials", "4")
    assert user.events("halted")[: len(before)] == before
    assert all_complete(user.events("halted")) == 4
    assert json.loads(user.give("status", "halted", "--json"))["id"] == "halted-2"


def test_two_users_at_once(cluster: Cluster) -> None:
    users = [new_client(cluster, name) for name in ("ada", "bea")]
    jobs = [user.submit(f"{user.user}s-search") for user in users]
    for user, job in zip(users, jobs, strict=True):
        until(user.at_gate, job)
    listed = json.loads(users[0].give("list", "--json"))
    running = {job["name"]: job for job in listed if job["status"] == "RUNNING"}
    assert {job["user"] for job in running.values()} == {"ada", "bea"}
    assert {job["experiment"] for job in running.values()} == {"tiny"}
    for user in users:
        user.open()
    for user, job in zip(users, jobs, strict=True):
        ended(job)
        assert all_complete(user.events(f"{user.user}s-search")) == 3


def test_too_much_is_refused_before_it_is_sent(cluster: Cluster) -> None:
    user = new_client(cluster)
    (user.project / "trainables" / "weights.pth").write_bytes(os.urandom(110 << 20))
    said = user.give("--space", "tiny.yaml", "--name", "heavy", code=2)
    assert "the package: expected at most 95 MiB of code (" in said
    assert "trainables/weights.pth (110.0 MiB)" in said
    assert "heavy" not in {job["name"] for job in json.loads(user.give("list", "--json"))}


def test_what_the_cluster_cannot_do_is_refused(cluster: Cluster) -> None:
    user = new_client(cluster)
    said = user.give("--space", "tiny.yaml", "--set", "resources.cpus=99", code=2)
    assert re.search(r"error: .*resources: expected .*, got cpus: 99, gpus: ", said), said
    folder = cluster.folder / "unshared"
    folder.write_text("no folder")
    words = [
        "--set",
        f"tracking.directory={folder}",
        "--set",
        "data.root=/nowhere",
        "--set",
        "data.dataset=imagefolder",
    ]
    said = user.give("--space", "tiny.yaml", *words, code=2)
    assert "tracking.directory: expected a folder that the head can write" in said
    assert "/nowhere" in said
    text = (user.project / "pyproject.toml").read_text()
    (user.project / "pyproject.toml").write_text(text.replace('"torch>=2.9"', '"torch>=99", "no-such-package"'))
    said = user.give("--space", "tiny.yaml", code=3)
    assert re.search(r"the head lacks torch>=99 \(there is 2\.\S+\), no-such-package \(there is none\)", said), said


def test_wrong_token(new_cluster: NewCluster) -> None:
    token = "5ecret" * 11
    cluster = new_cluster(workers=0, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    user = new_client(cluster)
    none = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    said = user.give("list", code=3, **none)
    assert said == f"error: {ADDRESS} wants a token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH\n"
    said = user.give("list", code=3, **none | {"RAY_AUTH_TOKEN": "wrong" * 8})
    assert said == f"error: {ADDRESS} refuses this token\n"
    said = user.give("list", **none | {"RAY_AUTH_TOKEN": token})  # sent without any mode
    assert token not in said
    cluster.end()


def test_a_cluster_at_no_worker_is_asked_for_one(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=0)
    user = new_client(cluster)
    user.open()
    job = user.submit("early")
    until(lambda: [job["status"] for job in json.loads(user.give("list", "--json"))] == ["RUNNING"], job)
    assert user.kinds("early") == []
    cluster.start_worker(2)
    said = ended(job)
    assert "no worker is there yet: early asks for a worker with at least 1 CPUs and 1 GPUs" in said, said
    assert "1 of 1 workers are there" in said, said
    assert all_complete(user.events("early")) == 3
    cluster.end()


def test_worker_killed_and_another_joining(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=2)
    user = new_client(cluster, trials=AT_ONCE)
    job = user.submit("storm")
    until(lambda: len(user.at_gate()) == AT_ONCE, job)
    lost = {trial for trial, _, node, _ in user.at_gate() if node == address_of(3)}
    cluster.kill_node(3)
    cluster.start_worker(4)
    until(lambda: any(node == address_of(4) for _, _, node, _ in user.at_gate()), job)
    moved = {trial for trial, _, node, _ in user.at_gate() if node == address_of(4)}
    assert len(lost) == AT_ONCE // 2
    assert moved <= lost
    user.open()
    ended(job)
    assert all_complete(user.events("storm")) == AT_ONCE
    cluster.end()


def test_head_killed_and_the_search_resumed_on_a_new_cluster(new_cluster: NewCluster) -> None:
    cluster = new_cluster(workers=1)
    user = new_client(cluster)
    user.open(fold=1)
    job = user.submit("phoenix")
    until(lambda: user.kinds("phoenix").count("fold_finished") == 3, job)
    cluster.kill_node(1)
    said = ended(job, code=3)
    assert "the cluster no longer answers" in said
    assert "go on with: python -m deploy.submit --space tiny.yaml --resume phoenix" in said
    before = user.events("phoenix")
    cluster.kill()
    other = new_cluster(workers=1)
    user.cluster = other
    user.open()
    assert user.give("result", "phoenix", "--directory", str(cluster.shared)).endswith("the search has not finished\n")
    user.give("--space", "tiny.yaml", "--resume", "phoenix")
    after = user.events("phoenix")
    assert after[: len(before)] == before
    assert all_complete(after) == 3
    check_results(user.project / "results" / "phoenix", user.give("result", "phoenix"))
    for gone in (other, cluster):
        gone.end()


S3 = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "AWS_ACCESS_KEY_ID": "ada",
    "AWS_SECRET_ACCESS_KEY": "lovelace",
    "AWS_REGION": "eu-central-1",
}
MAKE_BUCKET = "import urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:9000/lab', method='PUT'))"


def test_head_lost_with_its_disk_and_the_search_resumed_from_s3(new_cluster: NewCluster) -> None:
    """No disk is shared: the head has one, the worker another, and only the object store outlives the head's."""
    pytest.importorskip("moto", reason="needs the S3 server of moto")
    cluster = new_cluster(workers=0, **S3)
    disk = cluster.shared = cluster.folder / "disk"
    disk.mkdir()
    cluster.start_worker(2, apart=disk)
    server = cluster.popen("sh", "-c", "exec python -m moto.server -H 127.0.0.1 -p 9000 >/dev/null 2>&1")
    until(lambda: cluster.popen("python", "-c", MAKE_BUCKET).wait() == 0, server)
    user = new_client(cluster)
    user.open(fold=1)
    mirror = "--set", "tracking.mirror=s3://lab/runs"
    job = user.submit("lazarus", *mirror)
    copy = user.project / "copy"

    def folds_on_s3() -> int:
        user.popen("result", "lazarus", "--directory", "s3://lab/runs", "--to", str(copy)).communicate()
        events = read_events(copy / "journal.jsonl") if copy.exists() else ()
        return sum(isinstance(event, FoldFinished) for event in events)

    until(lambda: user.kinds("lazarus").count("fold_finished") == 3, job)
    until(lambda: folds_on_s3() == 3, job)
    before = list(read_events(copy / "journal.jsonl"))
    cluster.kill(lambda command: "moto.server" not in command)
    ended(job, code=-signal.SIGKILL)
    for folder in (disk, cluster.folder / "n1", cluster.folder / "n2"):
        shutil.rmtree(folder)
    disk.mkdir()
    cluster.start_head()
    cluster.start_worker(2, apart=disk)
    user.open()
    user.give("--space", "tiny.yaml", "--resume", "lazarus", *mirror)
    after = user.events("lazarus")
    assert after[: len(before)] == before
    assert all_complete(after) == 3
    check_results(user.project / "results" / "lazarus", user.give("result", "lazarus"))
    assert "lovelace" not in "".join(path.read_text(errors="replace") for path in disk.rglob("*") if path.is_file())
    cluster.end()
