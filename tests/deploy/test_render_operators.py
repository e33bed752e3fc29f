"""What clusters ask for besides: registries, identities, runtimes, other GPUs, and arguments of a job."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.render import Target, render
from deploy.secrets import kubernetes_secrets
from deploy.settings import load_settings
from deploy.worker_request import WorkerRequest
from tests.deploy.test_manifests import VARIANTS, objects, pods, ray_object
from trainables.errors import BadInput
from tuner.cli.arguments import parse_arguments
from tuner.search import parser


def test_what_operators_of_clusters_ask_for_reaches_the_pods() -> None:
    spec = ray_object("RayJob", "operators")["spec"]
    cluster, submitter = spec["rayClusterSpec"], spec["submitterPodTemplate"]["spec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    (group,) = cluster["workerGroupSpecs"]
    worker = group["template"]["spec"]
    for pod in (head, worker, submitter):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert head["serviceAccountName"] == worker["serviceAccountName"] == "searcher"
    assert (worker["runtimeClassName"], "runtimeClassName" in head) == ("nvidia", False)
    (container,) = worker["containers"]
    assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert "AWS_ACCESS_KEY_ID" not in {variable["name"] for variable in container["env"]}
    assert group["rayStartParams"]["num-gpus"] == "1"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"


def test_an_identity_needs_no_keys() -> None:
    settings = load_settings(overrides=VARIANTS["operators"] | {"mlflow.artifacts": "/artifacts"})
    names = [secret["metadata"]["name"] for secret in kubernetes_secrets(settings, {})]  # type: ignore[index,call-overload]
    assert not any(name.endswith("-s3") for name in names)


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_each_kind_of_worker_is_a_group_of_its_own(kind: str) -> None:
    spec = ray_object(kind, "groups")["spec"]
    groups = {group["groupName"]: group for group in spec.get("rayClusterSpec", spec)["workerGroupSpecs"]}
    assert list(groups) == ["spot-t4", "a100", "amd"]
    pods = {name: group["template"]["spec"] for name, group in groups.items()}
    limits = {name: pod["containers"][0]["resources"]["limits"] for name, pod in pods.items()}
    assert limits["a100"] == {"cpu": 96, "memory": "512Gi", "nvidia.com/gpu": 8}
    assert limits["amd"]["amd.com/gpu"] == 1
    assert [(group["minReplicas"], group["maxReplicas"]) for group in groups.values()] == [(0, 16), (1, 2), (0, 8)]
    assert {name: group["rayStartParams"]["num-gpus"] for name, group in groups.items()} == {
        "spot-t4": "1",
        "a100": "8",
        "amd": "1",
    }
    assert pods["spot-t4"]["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert pods["spot-t4"]["tolerations"] == list(load_settings().worker.tolerations)
    assert pods["amd"]["tolerations"] == []


def test_a_job_waits_for_one_worker_of_any_group() -> None:
    settings = load_settings(overrides=VARIANTS["groups"] | {"worker.gpus": 4, "worker.cpus": 32})
    assert settings.first_worker == WorkerRequest(1, cpus=32, gpus=4), "the largest group has more"


def test_beside_gpus_a_job_does_not_begin_on_a_group_of_cpus() -> None:
    """It would train on CPUs to its end: places for trials are counted as it begins."""
    groups = [{"name": "cpu", "gpus": 0, "cpus": 64}, {"name": "a100", "gpus": 8, "cpus": 96}]
    assert load_settings(overrides={"worker_groups": groups}).first_worker == WorkerRequest(1, cpus=96, gpus=8)
    assert load_settings(overrides={"worker_groups": groups[:1]}).first_worker == WorkerRequest(1, cpus=64, gpus=0)


def test_a_process_sees_one_slice_of_a_gpu_so_that_a_worker_has_one() -> None:
    slices = {"worker.gpu_resource": "nvidia.com/mig-1g.10gb"}
    with pytest.raises(BadInput, match=r"worker: expected at most 1 of gpus with nvidia.com/mig-1g.10gb .*, got 2"):
        load_settings(overrides=slices | {"worker.gpus": 2})
    assert load_settings(overrides=slices | {"worker.gpus": 1}).worker.gpus == 1


def test_the_pods_of_mlflow_come_from_the_private_registry_too() -> None:
    overrides = {"kubernetes.image_pull_secrets": ["registry"]}
    whole = yaml.safe_load_all(render(Target.MLFLOW, load_settings(overrides=overrides)))
    found = [pod for each in whole for pod in pods(each)]
    assert [pod["imagePullSecrets"] for pod in found] == [[{"name": "registry"}]] * 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"worker_groups": [{"name": "a"}, {"name": "a"}]}, "worker_groups of different names, got a, a"),
        ({"worker_groups": [{"name": "a", "gpu": 1}]}, "worker_groups[0].gpu"),
        ({"worker_groups": [{"gpus": 1}]}, "worker_groups[0].name"),
        ({"worker.min_workers": 9}, "a min_workers of at most max_workers, 8, got 9"),
        (
            {"kubernetes.queue": "q", "worker_groups": [{"name": f"g{n}"} for n in range(8)]},
            "at most 7 worker_groups with kubernetes.queue, got 8",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as bad:
        load_settings(overrides=overrides)
    assert said in str(bad.value)


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kueue_admits_a_cluster_as_a_whole(kind: str) -> None:
    whole = ray_object(kind, "queue")
    spec = whole["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert whole["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    assert (cluster["enableInTreeAutoscaling"], "autoscalerOptions" in cluster) == (False, False)
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], "idleTimeoutSeconds" in group) == (3, False)
    pods = [cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]]
    assert [pod["priorityClassName"] for pod in pods] == ["batch", "batch"]
    assert "labels" not in ray_object(kind)["metadata"]


@pytest.mark.parametrize(("variant", "folder"), [("default", "/experiments/cache"), ("s3", "/tmp/experiments/cache")])
def test_every_pod_knows_where_decoded_images_and_weights_are(variant: str, folder: str) -> None:
    cluster = ray_object("RayCluster", variant)["spec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        environment = {each["name"]: each.get("value") for each in container["env"]}
        assert environment["TUNER_CACHE"] == folder
        assert environment["TORCH_HOME"] == f"{folder}/torch"
        assert environment["HF_HOME"] == f"{folder}/huggingface"


def test_a_redis_of_the_namespace_admits_ray_and_nobody_else() -> None:
    everything = objects("gcs redis", Target.NAMESPACE)
    policies = {each["metadata"]["name"]: each["spec"] for each in everything if each["kind"] == "NetworkPolicy"}
    ray_nodes = {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
    assert policies["redis"]["ingress"] == [{"from": [ray_nodes], "ports": [{"port": 6380}]}]


class Stubs:
    """Stand-ins for `ray` and `python`, which note in a file what they were given, one line a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write("ray", "[[ $2 == status ]] && exit 1; [[ $2 == submit ]] || exit 0")
        self._write("python", f"[[ $2 != deploy.preflight || ! -e {folder}/wrong ]] || exit 2")

    def _write(self, name: str, action: str) -> None:
        note = f'printf "%q " "$@" >> {self.folder}/{name}.log; echo >> {self.folder}/{name}.log'
        (self.folder / name).write_text(f"#!/usr/bin/env bash\n{note}\n{action}\n")
        (self.folder / name).chmod(stat.S_IRWXU)

    def run(self, *command: str) -> int:
        environment = os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"}
        return subprocess.run(command, env=environment, timeout=60, check=False).returncode

    def calls(self, name: str) -> list[list[str]]:
        log = self.folder / f"{name}.log"
        return [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []


def job_of(entrypoint: str, stubs: Stubs) -> str:
    """The command of the Ray job that KubeRay's submitter starts: it pastes the entrypoint into a line of its shell,
    and `ray job submit` quotes the words that it is given."""
    submit = f"ray job submit --address http://head:8265 --no-wait --submission-id x -- {entrypoint} ;"
    script = f"if ! ray job status x >/dev/null 2>&1 ; then {submit} fi ; ray job logs --follow x"
    assert stubs.run("bash", "-ec", script) == 0
    assert stubs.calls("python") == [], "the submitter ran a part of it"
    (submitted,) = [call for call in stubs.calls("ray") if call[1] == "submit"]
    return shlex.join(submitted[submitted.index("--") + 1 :])


@pytest.mark.parametrize("is_wrong", [False, True])
def test_a_job_is_checked_on_the_head_and_then_searches_there(tmp_path: Path, is_wrong: bool) -> None:
    stubs = Stubs(tmp_path)
    job = job_of(ray_object("RayJob", "arguments")["spec"]["entrypoint"], stubs)
    if is_wrong:
        (tmp_path / "wrong").touch()
    assert stubs.run("sh", "-c", job) == (2 if is_wrong else 0)
    check, *searches = stubs.calls("python")
    assert check[:2] == ["-m", "deploy.preflight"]
    assert len(searches) == (0 if is_wrong else 1)
    for words in [check[2:], *(search[search.index("tuner.search") + 1 :] for search in searches)]:
        arguments = parse_arguments(parser(), words)
        assert arguments.space == Path("/experiments/mine.yaml")
        assert arguments.resume is True
        assert arguments.set == [("tracking.directory", "/experiments"), ("name", "a b")]
    for search in searches:
        assert search[:4] == ["-m", "deploy.workers", "--workers", "1"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--resume", "mine"], "'--resume mine': exactly one of --space FILE"),
        (["--sett", "a=b"], "'--sett a=b': unrecognized arguments: --sett"),
        (["--set", "search.minutes"], "expected KEY=VALUE, got 'search.minutes'"),
    ],
)
def test_arguments_that_the_search_would_refuse_are_refused_here(arguments: list[str], reason: str) -> None:
    with pytest.raises(BadInput) as bad:
        load_settings(overrides={"job.arguments": arguments})
    assert "job.arguments: expected arguments that tuner.search takes beside --space, got " in str(bad.value)
    assert reason in str(bad.value)
