"""What a Kubernetes cluster would say to the manifests: the schemas, and the rules that no schema shows."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.render import Target, render
from deploy.secrets import kubernetes_secrets
from deploy.settings import load_settings

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
KUBERNETES = "1.33"
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "s3": {"storage.experiments": "s3://lab/runs", "storage.endpoint": "http://store:9000"},
    "database outside": {"mlflow.database_host": "db.lan", "mlflow.artifacts": "/artifacts"},
    "own s3 for models": {"mlflow.artifacts_endpoint": "http://store:9000"},
    "cpu": {"worker.gpus": 0, "worker.tolerations": []},
    "operators": {
        "kubernetes.runtime_class": "nvidia",
        "kubernetes.image_pull_secrets": ["registry"],
        "kubernetes.service_account": "searcher",
        "worker.gpu_resource": "nvidia.com/mig-1g.10gb",
        "storage.experiments": "s3://lab/runs",
    },
    "arguments": {"job.space": "/experiments/mine.yaml", "job.arguments": ["--resume", "--set", "name=a b"]},
    "gcs redis": {"kubernetes.gcs_redis": "redis:6380"},
    "other ports": {"ports.gcs": 6380, "ports.dashboard": 8266},
    "groups": {
        "worker_groups": [
            {"name": "spot-t4", "max_workers": 16, "node_selector": {"cloud.google.com/gke-spot": "true"}},
            {"name": "a100", "min_workers": 1, "max_workers": 2, "gpus": 8, "cpus": 96, "memory_gib": 512},
            {"name": "amd", "gpu_resource": "amd.com/gpu", "tolerations": []},
        ],
    },
    "queue": {"kubernetes.queue": "research", "kubernetes.priority_class": "batch", "worker.max_workers": 3},
    "chosen nodes": {"worker.node_selector": {"cloud.google.com/gke-accelerator": "nvidia-l4"}},
}
TARGETS = [Target.NAMESPACE, Target.RAYCLUSTER, Target.RAYJOB, Target.MLFLOW]
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "PGPASSWORD": "c", "REDIS_PASSWORD": "d"}

Object = dict[str, Any]


def objects(variant: str, *targets: Target) -> list[Object]:
    settings = load_settings(overrides=VARIANTS[variant])
    rendered = [yaml.safe_load_all(render(target, settings)) for target in targets]
    return json.loads(json.dumps([each for documents in rendered for each in documents]))  # type: ignore[no-any-return]


def ray_object(kind: str, variant: str = "default") -> Object:
    (found,) = objects(variant, Target.RAYCLUSTER if kind == "RayCluster" else Target.RAYJOB)
    assert found["kind"] == kind
    return found


# KubeRay's schemas


def closed(schema: Any) -> Any:
    """The structural schema as JSON schema. A cluster drops unknown fields silently; here they are errors."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    inner = {key: closed(value) for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        inner.setdefault("additionalProperties", False)
    return inner


@pytest.fixture(scope="module")
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    if not SCHEMAS.exists():
        pytest.skip(f"KubeRay's schemas are not at {SCHEMAS}")
    files = {"RayCluster": "ray.io_rayclusters.v1.json", "RayJob": "ray.io_rayjobs.v1.json"}
    return {
        kind: jsonschema.Draft202012Validator(closed(json.loads((SCHEMAS / file).read_text())))
        for kind, file in files.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kuberay_knows_every_field(kind: str, variant: str, validators: dict[str, Any]) -> None:
    assert [error.message for error in validators[kind].iter_errors(ray_object(kind, variant))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "headGroupSpec", "template", "spec", "nodeSelectors"), {}),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "enableAutoscaling"), True),
        (("spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "resource"), {}),
        (("spec", "autoscalerOptions", "version"), "v3"),
    ],
)
def test_the_schema_check_can_fail(path: tuple[Any, ...], value: Any, validators: dict[str, Any]) -> None:
    assert not validators["RayCluster"].is_valid(changed(ray_object("RayCluster"), path, value))


def changed(whole: Object, path: tuple[Any, ...], value: Any) -> Object:
    """A copy with `value` at the path."""
    whole = copy.deepcopy(whole)
    at: Any = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return whole


# What KubeRay's operator refuses, though the schema admits it


def operator_problems(whole: Object) -> list[str]:
    spec = whole["spec"]
    is_job = whole["kind"] == "RayJob"
    cluster = spec.get("rayClusterSpec") if is_job else spec
    said = []
    name = whole["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > (47 if is_job else 53):
        said.append("name")
    if is_job:
        said += _job_problems(spec)
    return said + (_cluster_problems(cluster, is_job) if cluster else [])


def _job_problems(spec: Object) -> list[str]:
    mode = spec.get("submissionMode", "K8sJobMode")
    rules = {
        "one of rayClusterSpec and clusterSelector": ("rayClusterSpec" in spec) != ("clusterSelector" in spec),
        "a suspended job shuts down": not spec.get("suspend") or spec.get("shutdownAfterJobFinishes"),
        "a cluster that ends with the job, at once": spec.get("shutdownAfterJobFinishes")
        and not spec.get("ttlSecondsAfterFinished"),
        "no backoffLimit there": not spec.get("backoffLimit")
        or ("clusterSelector" not in spec and mode != "InteractiveMode"),
        "no submitter pod in a sidecar": mode != "SidecarMode"
        or not {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & set(spec),
        "an entrypoint without resources, which would unpin it from the head": not any(
            key.startswith("entrypoint") and key != "entrypoint" for key in spec
        ),
    }
    return [rule for rule, holds in rules.items() if not holds]


def _cluster_problems(spec: Object, is_job: bool) -> list[str]:
    groups = [spec["headGroupSpec"], *spec.get("workerGroupSpecs", [])]
    auth = spec.get("authOptions", {})
    autoscaler_v2 = spec.get("autoscalerOptions", {}).get("version") == "v2"
    rules = {
        "token auth of a Ray that has it": auth.get("mode") == "token"
        and tuple(map(int, spec.get("rayVersion", "0").split("."))) >= (2, 52, 0),
        "no RBAC auth in a job": not (is_job and auth.get("enableK8sTokenAuth")),
        "pods are not restarted under the autoscaler": not autoscaler_v2
        or all(group["template"]["spec"].get("restartPolicy") in (None, "Never") for group in groups),
        "replicas within bounds": all(
            group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups[1:]
        ),
        "no resource said twice": not any(
            {"num-cpus", "num-gpus", "memory"} & set(group["rayStartParams"]) and group.get("resources")
            for group in groups
        ),
        "the image is of rayVersion's image": len({_ray_image(group) for group in groups}) == 1,
        "ports that Ray listens on": _ports_that_ray_is_given(groups[0]) == _container_ports(groups[0]),
    }
    return [rule for rule, holds in rules.items() if not holds]


def _ports_that_ray_is_given(head: Object) -> Object:
    """By the names that KubeRay has for them; what is not given is Ray's default."""
    flags = head["rayStartParams"]
    return {"gcs-server": int(flags.get("port", 6379)), "dashboard": int(flags.get("dashboard-port", 8265))}


def _container_ports(head: Object) -> Object:
    return {port["name"]: port["containerPort"] for port in head["template"]["spec"]["containers"][0]["ports"]}


def _ray_image(group: Object) -> str:
    return str(group["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_the_operator_would_take_it(kind: str, variant: str) -> None:
    assert operator_problems(ray_object(kind, variant)) == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayJob", ("metadata", "name"), "a" * 48),
        ("RayCluster", ("metadata", "name"), "7th"),
        ("RayJob", ("spec", "clusterSelector"), {"a": "b"}),
        ("RayJob", ("spec", "entrypointNumGpus"), 1),
        ("RayJob", ("spec", "submissionMode"), "SidecarMode"),
        ("RayJob", ("spec", "shutdownAfterJobFinishes"), False),
        ("RayJob", ("spec", "ttlSecondsAfterFinished"), 3600),
        ("RayJob", ("spec", "rayClusterSpec", "authOptions", "enableK8sTokenAuth"), True),
        ("RayCluster", ("spec", "authOptions", "mode"), "disabled"),
        ("RayCluster", ("spec", "rayVersion"), "2.51.0"),
        ("RayCluster", ("spec", "headGroupSpec", "template", "spec", "restartPolicy"), "Always"),
        ("RayCluster", ("spec", "workerGroupSpecs", 0, "minReplicas"), 1),
        ("RayCluster", ("spec", "headGroupSpec", "resources"), {"CPU": "1"}),
        ("RayCluster", ("spec", "headGroupSpec", "rayStartParams", "dashboard-port"), "8000"),
    ],
)
def test_each_rule_of_the_operator_can_fail(kind: str, path: tuple[Any, ...], value: Any) -> None:
    assert operator_problems(changed(ray_object(kind), path, value))


# Kubernetes' own kinds


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_knows_every_field(variant: str) -> None:
    secrets = kubernetes_secrets(load_settings(overrides=VARIANTS[variant]), ENVIRONMENT)
    for each in [*objects(variant, Target.NAMESPACE, Target.MLFLOW), *secrets]:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_the_check_of_kubernetes_kinds_can_fail() -> None:
    (deployment, *_) = objects("default", Target.MLFLOW)
    broken = changed(deployment, ("spec", "template", "spec", "containers", 0, "livenesProbe"), {})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


# What this project demands of every pod


def pods(whole: Any) -> Iterator[Object]:
    """Every pod's spec anywhere in the object."""
    if isinstance(whole, dict):
        if "containers" in whole:
            yield whole
        for each in whole.values():
            yield from pods(each)
    elif isinstance(whole, list):
        for each in whole:
            yield from pods(each)


def pod_problems(pod: Object) -> list[str]:
    said = [] if pod.get("securityContext", {}).get("runAsNonRoot") else ["runs as root"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        context = container.get("securityContext", {})
        limits = container.get("resources", {}).get("limits", {})
        rules = {
            "a pinned image": ":" in container["image"] and not container["image"].endswith(":latest"),
            "no more rights": context.get("allowPrivilegeEscalation") is False
            and context.get("capabilities", {}).get("drop") == ["ALL"],
            "limits": {"cpu", "memory"} <= set(limits),
            "no secret written out": not any(
                re.search("PASSWORD|SECRET|TOKEN|KEY", env["name"]) and "value" in env
                for env in container.get("env", [])
            ),
        }
        said += [f"{container['name']}: {rule}" for rule, holds in rules.items() if not holds]
    return said


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_is_locked_down(variant: str) -> None:
    found = [pod for whole in objects(variant, *TARGETS) for pod in pods(whole)]
    assert len(found) >= 6
    assert [problem for pod in found for problem in pod_problems(pod)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("securityContext",), {}),
        (("containers", 0, "image"), "postgres"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
        (("containers", 0, "resources"), {}),
        (("containers", 0, "env"), [{"name": "PGPASSWORD", "value": "mlflow"}]),
    ],
)
def test_each_demand_can_fail(path: tuple[Any, ...], value: Any) -> None:
    pod = next(pods(objects("default", Target.MLFLOW)))
    assert pod_problems(pod) == []
    assert pod_problems(changed(pod, path, value))


def test_every_secret_that_is_asked_for_is_made() -> None:
    for variant, overrides in VARIANTS.items():
        made = {
            (secret["metadata"]["name"], key)  # type: ignore[index]
            for secret in kubernetes_secrets(load_settings(overrides=overrides), ENVIRONMENT)
            for key in secret["stringData"]  # type: ignore[attr-defined]
        }
        text = json.dumps(objects(variant, *TARGETS))
        asked = {(ref["name"], ref["key"]) for ref in map(json.loads, re.findall(r'"secretKeyRef": ({.*?})', text))}
        token = load_settings().name + "-token"
        assert f'"secretName": "{token}"' in text
        assert asked | {(token, "auth_token")} == made, variant


def test_a_service_called_mlflow_does_not_set_mlflows_port() -> None:
    mlflow = [pod for whole in objects("default", Target.MLFLOW) for pod in pods(whole)]
    assert all(pod["enableServiceLinks"] is False for pod in mlflow)


def test_nothing_is_published_and_each_pod_accepts_only_who_needs_it() -> None:
    everything = objects("default", *TARGETS)
    assert {each["spec"].get("type", "ClusterIP") for each in everything if each["kind"] == "Service"} == {"ClusterIP"}
    assert not [each for each in everything if each["kind"] == "Ingress"]
    policies = {each["metadata"]["name"]: each["spec"] for each in everything if each["kind"] == "NetworkPolicy"}
    assert policies["nothing-comes-in"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert set(policies) == {"nothing-comes-in", "ray", "mlflow", "postgres"}


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_workers_come_when_needed_and_only_they_have_cards(kind: str) -> None:
    spec = ray_object(kind)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    (workers,) = cluster["workerGroupSpecs"]
    head = cluster["headGroupSpec"]
    assert (workers["replicas"], workers["minReplicas"]) == (0, 0)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in json.dumps(head)


def test_dev_shm_holds_the_object_store() -> None:
    cluster = ray_object("RayCluster")["spec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
        assert shm["medium"] == "Memory"
        gib = int(shm["sizeLimit"].removesuffix("Gi"))
        assert int(group["rayStartParams"]["object-store-memory"]) < gib << 30
        assert gib < int(pod["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi"))
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
