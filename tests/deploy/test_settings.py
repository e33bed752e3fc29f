from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from deploy.settings import Settings, load_settings
from trainables.errors import BadInput

ROOT = Path(__file__).parents[2]


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def disagreements(settings: Settings) -> list[str]:
    """Versions that pyproject.toml does not admit, or that are not those tested here."""
    said = []
    for name, pinned in {"ray": settings.versions.ray, "mlflow": settings.versions.mlflow}.items():
        if not requirements()[name].specifier.contains(pinned):
            said.append(f"{name}: pyproject.toml wants {requirements()[name]}, the settings {pinned}")
        if version(name) != pinned:
            said.append(f"{name}: {version(name)} is installed, the settings say {pinned}")
    return said


def test_versions_are_those_of_pyproject_and_of_this_environment() -> None:
    assert disagreements(load_settings()) == []


def test_a_version_that_went_elsewhere_is_seen() -> None:
    assert len(disagreements(load_settings(overrides={"versions.ray": "2.49.0", "versions.mlflow": "2.1.0"}))) == 4


def test_the_python_of_the_images_is_one_that_the_project_runs_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(load_settings().versions.python)


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("worker: {gpus: 8}\nimages: {registry: registry.lan/ml/}\n")
    settings = load_settings(tmp_path / "ours.yaml", {"worker.cpus": 64})
    assert (settings.worker.gpus, settings.worker.cpus) == (8, 64)
    assert settings.tuner_image.startswith("registry.lan/ml/smile-tuner:")
    assert settings.versions == load_settings().versions


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("worker.gpu", 1, "did you mean 'gpus'"),
        ("name", "Smile_Tuner", "name"),
        ("name", "a" * 41, "at most 40"),
        ("images.postgres", "postgres", "expected an image with a tag other than `latest`"),
        ("images.postgres", "postgres:latest", "expected an image with a tag other than `latest`"),
        ("images.registry", "registry.lan", "pattern"),
        ("storage.experiments", "experiments", "expected an absolute path or s3://<bucket>"),
        ("storage.experiments", "s3://key:secret@bucket/x", "without credentials"),
        ("storage.endpoint", "http://key:secret@store:9000", "without credentials"),
        ("mlflow.hosts", ["*"], "pattern"),
        (
            "head.object_store_gib",
            15,
            "head: expected an object_store_gib of at most 14, 2 less than memory_gib, got 15",
        ),
        ("ports.mlflow", 80, "1024"),
        ("mlflow.bind", "0.0.0.0", "expected the IPv4 address of one network interface, got '0.0.0.0'"),
        ("mlflow.bind", "ml.lan", "expected the IPv4 address of one network interface, got 'ml.lan'"),
        ("job.keep_s", 3600, "keep_s"),
        ("machines.ssh_key", "id_lab", "pattern"),
        ("job.space", "x.yaml; rm -rf /", "pattern"),
        ("versions.ray", "latest", "pattern"),
    ],
)
def test_what_cannot_be_rendered_is_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(BadInput) as bad:
        load_settings(overrides={key: value})
    assert said in str(bad.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slurm.partition", "gpu\n#SBATCH --uid=root"),
        ("slurm.environment", ".venv\r"),
        ("storage.region", "eu\u2028central"),
        ("storage.experiments", "/experiments\nrm -rf /"),
        ("aws.profile", "ours\x00"),
        ("worker.node_selector", {"kind\n": "gpu"}),
        ("worker.tolerations", [{"key": "nvidia.com/gpu", "effect": "No\tSchedule"}]),
        ("mlflow.hosts", ["ml.lan\n"]),
    ],
)
def test_a_text_of_several_lines_is_refused(key: str, value: Any) -> None:
    with pytest.raises(BadInput) as bad:
        load_settings(overrides={key: value})
    first, *others = str(bad.value).splitlines()
    assert f"{key}" in first
    assert ": expected text of printable characters, without line ends, got " in first
    assert all(": expected " in other for other in others)  # it may be wrong in another way, too


def test_every_host_is_allowed_with_and_without_its_port() -> None:
    hosts = load_settings(overrides={"mlflow.hosts": ["ml.lan"], "ports.mlflow": 5001}).allowed_hosts.split(",")
    assert {"ml.lan", "ml.lan:5001", "mlflow", "mlflow:5001"} <= set(hosts)
    assert "*" not in hosts
