"""What clusters ask for besides: registries, identities, runtimes, other GPUs, and arguments of a job."""

from __future__ import annotations

import shlex

from deploy.secrets import kubernetes_secrets
from deploy.settings import load_settings
from tests.deploy.test_manifests import VARIANTS, ray_object


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


def test_a_job_is_checked_before_it_waits_and_takes_arguments_of_its_own() -> None:
    check, search = ray_object("RayJob", "arguments")["spec"]["entrypoint"].split(" && ")
    words = shlex.split(search)
    assert shlex.split(check)[:5] == ["python", "-m", "tuner.search", "--space", "/experiments/mine.yaml"]
    assert shlex.split(check)[-1] == "--dry-run"
    assert words[words.index("--space") + 1] == "/experiments/mine.yaml"
    assert words[-4:] == ["--resume", "mine", "--set", "name=a b"]
    assert "deploy.workers" in words
