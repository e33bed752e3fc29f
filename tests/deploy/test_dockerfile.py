from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.settings import load_settings

FILE = Path("deploy/Dockerfile")
HADOLINT = Path(sys.executable).with_name("hadolint")


def hadolint(text: str) -> str:
    command = [str(HADOLINT), "--no-color", "-"]
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout + ended.stderr


def test_hadolint_has_nothing_to_say() -> None:
    assert hadolint(FILE.read_text()) == ""
    assert "DL3007" in hadolint("FROM python:latest\n")


def dockerfile_problems(text: str) -> list[str]:
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    served = [stage for stage in stages if re.search(r" AS (tuner|mlflow)$", stage.splitlines()[0])]
    users = [re.findall(r"^USER (\S+)", stage, re.MULTILINE) for stage in served]
    index = r"https?://(?!127\.0\.0\.1)|index-url|trusted-host"
    rules = {
        "both images": len(served) == 2,
        "a user by number, as Kubernetes wants it, who is not root": all(
            each and re.fullmatch(r"[1-9]\d*:\d+", each[-1]) for each in users
        ),
        "bases whose version is an argument": all("${" in base for base in bases),
        "packages from wherever pip is told to look": not re.search(index, text),
        "no secret as argument or variable": not re.search(r"^(ARG|ENV)\s+\w*(PASSWORD|TOKEN|SECRET|KEY)", text, re.M),
    }
    return [rule for rule, holds in rules.items() if not holds]


def test_it_is_what_it_should_be() -> None:
    assert dockerfile_problems(FILE.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" AS mlflow", " AS server"),
        ("USER 1000:1000", "USER 0:0"),
        ("USER 1000:1000", "USER mlflow"),
        ("FROM python:${PYTHON_VERSION}-slim", "FROM python:3.11-slim"),
        ("pip wheel", "pip wheel --index-url https://mirror.example/simple"),
        ("ARG MLFLOW_VERSION", "ARG S3_SECRET_ACCESS_KEY"),
    ],
)
def test_each_demand_can_fail(old: str, new: str) -> None:
    assert old in FILE.read_text()
    assert len(dockerfile_problems(FILE.read_text().replace(old, new))) >= 1


def test_it_agrees_with_the_settings() -> None:
    text = FILE.read_text()
    settings = load_settings()
    tuner = text[text.index(" AS tuner") : text.index(" AS mlflow")]
    assert re.findall(r"^WORKDIR (\S+)", tuner, re.MULTILINE) == [settings.project_folder]
    assert f"--group=100 {settings.storage.experiments}" in tuner
    assert "--owner=1000 --group=1000 /artifacts" in text  # of compose's volume, which takes its owner from there
    assert settings.ray_image == f"rayproject/ray:{settings.versions.ray}-py311-cpu"


def test_cuda_is_in_an_image_once_and_its_compiler_there() -> None:
    for accelerator in ("gpu", "cpu"):
        assert load_settings(overrides={"images.accelerator": accelerator}).ray_image.endswith("-cpu")
    assert "--no-install-recommends g++" in FILE.read_text()


def test_every_installation_has_the_versions_of_the_constraints() -> None:
    commands = re.findall(r"pip install [^&\n]*", FILE.read_text().replace("\\\n", " "))
    assert len(commands) == 3
    assert all("--constraint" in command or "--no-index" in command for command in commands)


def test_nothing_gets_into_the_build_but_what_is_named() -> None:
    lines = [line for line in Path("deploy/Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert named == {"pyproject.toml", "README.md", "LICENSE", "trainables", "tuner", "deploy", "search_spaces"}
    assert "deploy/.env" in lines
