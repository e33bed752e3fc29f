"""What clusters ask for besides: registries, identities, runtimes, other GPUs, and arguments of a job."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from deploy.secrets import kubernetes_secrets
from deploy.settings import load_settings
from deploy.worker_request import WorkerRequest
from tests.deploy.test_manifests import VARIANTS, ray_object
from trainables.errors import BadInput


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
    words = shlex.split(ray_object("RayJob", "groups")["spec"]["entrypoint"].split(" && ")[1])
    assert words[words.index("--workers") + 1] == "1"


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


def test_a_job_is_checked_before_it_waits_and_takes_arguments_of_its_own() -> None:
    check, search = ray_object("RayJob", "arguments")["spec"]["entrypoint"].split(" && ")
    words = shlex.split(search)
    assert shlex.split(check)[:5] == ["python", "-m", "tuner.search", "--space", "/experiments/mine.yaml"]
    assert shlex.split(check)[-1] == "--dry-run"
    assert words[words.index("--space") + 1] == "/experiments/mine.yaml"
    assert words[-4:] == ["--resume", "mine", "--set", "name=a b"]
    assert "deploy.workers" in words
