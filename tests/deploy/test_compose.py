from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from deploy.secrets import PASSWORDS, env_text
from deploy.settings import load_settings

FILE = Path("deploy/compose.yaml")
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")
ONE_SHOTS = {"bucket", "database-schema"}
MAY_BE_EMPTY = {"TORCH_INDEX"}
"""Variables that have to be set all the same."""

Compose = dict[str, Any]


def environment(**overrides: Any) -> dict[str, str]:
    """What `deploy.secrets` writes; `overrides` are settings with `__` for the dot."""
    settings = load_settings(overrides={key.replace("__", "."): value for key, value in overrides.items()})
    return dict(line.split("=", 1) for line in env_text(settings, {}).splitlines() if not line.startswith("#"))


def compose_with(**overrides: Any) -> Compose:
    """The file with its variables filled in."""
    values = {name: value.strip("'") for name, value in environment(**overrides).items()}
    return yaml.safe_load(VARIABLE.sub(lambda match: values[match[1]], FILE.read_text()))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def compose() -> Compose:
    """The file as it is with the default settings."""
    return compose_with()


def is_schema_valid(compose: Compose) -> bool:
    return bool(jsonschema.Draft202012Validator(get_builtin_schema("vendor.compose-spec")).is_valid(compose))


def test_it_is_of_the_compose_specification(compose: Compose) -> None:
    assert is_schema_valid(compose)
    broken = copy.deepcopy(compose)
    broken["services"]["mlflow"]["depends-on"] = []
    assert not is_schema_valid(broken)


def undefended(text: str) -> list[str]:
    """Variables that would be taken for empty, or for a default, where they are not set."""
    guards = {name: "?" if name in MAY_BE_EMPTY else ":?" for name, _ in VARIABLE.findall(text)}
    return [name for name, modifier in VARIABLE.findall(text) if not modifier.startswith(guards[name])]


def test_no_variable_has_a_default_and_each_is_written_for_it() -> None:
    text = FILE.read_text()
    assert undefended(text) == []
    assert {name for name, _ in VARIABLE.findall(text)} == set(environment())
    assert undefended("${POSTGRES_PASSWORD:-mlflow} ${RAY_AUTH_TOKEN}") == ["POSTGRES_PASSWORD", "RAY_AUTH_TOKEN"]


def service_problems(name: str, service: dict[str, Any]) -> list[str]:
    users = str(service.get("user", "0")).split(":")
    rules = {
        "an image that is pinned": re.fullmatch(r"\S+:(?!latest)\S+", service.get("image", "")),
        "a user who is not root": users[0] not in ("0", "root"),
        "no capabilities": service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
        "no new privileges": "no-new-privileges:true" in service.get("security_opt", []),
        "ports on the loopback": all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])),
        "dependencies with a condition": isinstance(service.get("depends_on", {}), dict)
        and all("condition" in needed for needed in service.get("depends_on", {}).values()),
        "a health check, or an image that has one": "healthcheck" in service or name in {*ONE_SHOTS, "mlflow"},
        "not privileged": not {"privileged", "network_mode", "pid"} & set(service),
    }
    return [f"{name}: {rule}" for rule, holds in rules.items() if not holds]


def test_every_service_is_locked_down(compose: Compose) -> None:
    assert len(compose["services"]) == 8
    problems = [problem for name, service in compose["services"].items() for problem in service_problems(name, service)]
    assert problems == []


@pytest.mark.parametrize(
    "change",
    [
        {"image": "postgres"},
        {"image": "postgres:latest"},
        {"user": "0:0"},
        {"cap_drop": []},
        {"security_opt": []},
        {"ports": ["5432:5432"]},
        {"depends_on": ["mlflow"]},
        {"healthcheck": None},
        {"privileged": True},
    ],
    ids=str,
)
def test_each_demand_can_fail(change: dict[str, Any], compose: Compose) -> None:
    service = compose["services"]["postgres"] | change
    if service["healthcheck"] is None:
        del service["healthcheck"]
    assert len(service_problems("postgres", service)) == 1


def test_conditions_fit_what_they_wait_for(compose: Compose) -> None:
    services = compose["services"]
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOTS else "service_healthy"
            assert how["condition"] == expected, needed
    assert {services[name]["restart"] for name in ONE_SHOTS} == {"no"}


def test_one_server_one_database_and_one_name_for_each(compose: Compose) -> None:
    services = compose["services"]
    mlflow = services["mlflow"]["environment"]
    assert mlflow["MLFLOW_BACKEND_STORE_URI"] == services["database-schema"]["entrypoint"][-1]
    assert "@postgres:" in mlflow["MLFLOW_BACKEND_STORE_URI"]
    assert services["ray-head"]["environment"]["MLFLOW_TRACKING_URI"] == f"http://mlflow:{mlflow['MLFLOW_PORT']}"
    assert f"mlflow:{mlflow['MLFLOW_PORT']}" in mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_services_that_kubernetes_finds_outside_are_started_here() -> None:
    """One file of settings serves several ways: images for Kubernetes are built by compose."""
    outside = environment(mlflow__database_host="db.lan", mlflow__artifacts_endpoint="http://store.lan:9000")
    inside = environment()
    assert {name for name in inside if outside[name] != inside[name]} == set(PASSWORDS)


def test_mlflow_is_reached_from_other_machines_where_that_is_asked_for() -> None:
    services = compose_with(mlflow__bind="10.0.0.5")["services"]
    assert services["mlflow"]["ports"] == ["10.0.0.5:5000:5000"]
    assert "10.0.0.5:5000" in services["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    others = [port for name, service in services.items() if name != "mlflow" for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in others)


def test_mlflow_alone_needs_nothing_of_ray(compose: Compose) -> None:
    waiting, needed = ["mlflow"], set()
    while waiting:
        needed.add(name := waiting.pop())
        waiting += compose["services"][name].get("depends_on", {})
    assert needed == {"mlflow", "bucket", "object-store", "database-schema", "postgres"}


@pytest.mark.parametrize(
    ("artifacts", "destination", "buckets"),
    [("s3://models/ours", "s3://models/ours", ["models"]), ("/srv/models", "/artifacts", [])],
)
def test_artifacts_are_in_a_bucket_that_is_made_or_in_the_volume(
    monkeypatch: pytest.MonkeyPatch, artifacts: str, destination: str, buckets: list[str]
) -> None:
    services = compose_with(mlflow__artifacts=artifacts)["services"]
    assert services["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"] == destination
    assert services["mlflow"]["volumes"] == ["artifacts:/artifacts"]
    made: list[str] = []
    store = SimpleNamespace(list_buckets=lambda: {"Buckets": []}, create_bucket=lambda Bucket: made.append(Bucket))
    monkeypatch.setattr(boto3, "client", lambda *_, **__: store)
    for name, value in services["bucket"]["environment"].items():
        monkeypatch.setenv(name, value)
    exec(services["bucket"]["entrypoint"][-1], {})
    assert made == buckets


def test_jobs_are_told_the_volume_of_the_experiments(compose: Compose) -> None:
    assert compose["services"]["ray-head"]["environment"]["TUNER_EXPERIMENTS"] == "/experiments"


def test_only_the_profile_that_is_asked_for_has_workers(compose: Compose) -> None:
    services = compose["services"]
    assert (services["ray-worker"]["profiles"], services["ray-worker-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    (device,) = services["ray-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["capabilities"], device["count"]) == (["gpu"], "all")
    assert "--num-" not in services["ray-worker-gpu"]["command"]
    assert "--num-cpus 0" in services["ray-head"]["command"]


def test_head_and_workers_share_decoded_images_and_weights(compose: Compose) -> None:
    for name in ("ray-head", "ray-worker", "ray-worker-gpu"):
        service = compose["services"][name]
        assert service["environment"]["TUNER_CACHE"] == "/experiments/cache"
        assert {"TORCH_HOME", "HF_HOME"} <= set(service["environment"])
        assert service["volumes"] == ["experiments:/experiments"]


def test_shared_memory_holds_the_object_store(compose: Compose) -> None:
    for name in ("ray-head", "ray-worker", "ray-worker-gpu"):
        service = compose["services"][name]
        store = int(re.search(r"--object-store-memory (\d+)", service["command"])[1])  # type: ignore[index]
        assert store < int(service["shm_size"].removesuffix("gb")) << 30


def test_the_passwords_stay_out_of_the_repository() -> None:
    assert "deploy/.env" in Path(".gitignore").read_text().splitlines()


def test_passwords_are_made_once_and_differ() -> None:
    values = environment()
    made = [values[name] for name in PASSWORDS]
    assert len(set(made)) == len(PASSWORDS)
    assert all(len(value) == 64 for value in made)
    again = env_text(load_settings(overrides={"versions.ray": "2.61.0"}), values)
    assert all(f"{name}={values[name]}\n" in again for name in PASSWORDS)
    assert "RAY_VERSION=2.61.0" in again
