"""The wheel as a user has it: built of what is in version control, installed with its requirements alone, used from
another folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, clean_environment, required_distributions

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("trainables", "tuner", "deploy", "search_spaces")
IMPORT_ALL = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    names = [package, *(found.name for found in pkgutil.walk_packages(module.__path__, package + "."))]
    for name in names:
        if not name.endswith("__main__") and ".testing" not in name:  # which needs pytest
            print(name, importlib.import_module(name).__file__, sep="=")
"""
STAYS = {
    "deploy/Dockerfile",
    "deploy/Dockerfile.dockerignore",
    "deploy/README.md",
    "deploy/compose.yaml",
    "deploy/constraints.txt",
    "search_spaces/paper/generate.py",
}
"""What is used in a clone alone."""


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """The files that are in version control or will be, by path."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy: setuptools leaves a folder `build` behind, and packs what an earlier build left there."""
    copy, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in sources:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), str(copy)]
    subprocess.run(pip, check=True, env=clean_environment())
    (wheel,) = built.iterdir()
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel and what it requires, without extras and without the tools of these tests."""
    environment = Environment.make(tmp_path_factory.mktemp("installed"))
    environment.link(required_distributions(PROJECT["dependencies"]).values())
    environment.install("--no-index", str(wheel))
    return environment


def run(environment: Environment, program: str, *arguments: str, folder: Path) -> str:
    """The standard output of one of the environment's programs, run in `folder`; fails where it does."""
    command = [str(environment.bin / program), *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=480, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def metadata_of(wheel: Path) -> tuple[Message, set[str]]:
    """Its METADATA, and the names of its files."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name)), names


def test_it_holds_the_packages_with_their_data_and_nothing_else(wheel: Path, sources: list[str]) -> None:
    _, names = metadata_of(wheel)
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == {name for name in sources if name.split("/")[0] in PACKAGES and name not in STAYS}
    expected = {"search_spaces/smile.yaml", "search_spaces/paper/parts/images.yaml", "deploy/templates/rayjob.yaml"}
    expected |= {"tuner/py.typed", "trainables/py.typed", "deploy/py.typed", "tuner/reports/templates/report.html"}
    assert packaged >= expected


def test_its_metadata_says_licence_authors_and_versions(wheel: Path) -> None:
    metadata, names = metadata_of(wheel)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The smile-tuner authors"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    versions = {line.rpartition(" ")[2] for line in metadata.get_all("Classifier", []) if "Python :: 3." in line}
    assert versions == {"3.11", "3.12", "3.13"}


def test_its_requirements_are_met_by_those_that_it_names(environment: Environment) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(environment.bin / "python"), "check"]
    checked = subprocess.run(pip, capture_output=True, text=True, check=False, env=clean_environment())
    assert checked.returncode == 0, checked.stdout
    assert not (environment.site_packages / "pytest").exists()


def test_every_module_is_imported_from_where_it_was_installed(environment: Environment, tmp_path: Path) -> None:
    """Also without the extras: those that need one import it when it is used."""
    printed = run(environment, "python", "-c", IMPORT_ALL, *PACKAGES, folder=tmp_path)
    files = dict(line.split("=") for line in printed.splitlines())
    assert set(PACKAGES) < files.keys()
    for name, file in files.items():
        assert Path(file).is_relative_to(environment.site_packages / name.partition(".")[0]), name


def test_its_version_and_methods_are_listed(environment: Environment, tmp_path: Path) -> None:
    version = run(environment, "smile-tuner", "--version", folder=tmp_path)
    assert version == f"smile-tuner {PROJECT['version']}\n"
    assert "\nsmile " in run(environment, "smile-tuner", "methods", folder=tmp_path)


def test_a_packaged_experiment_runs_from_another_folder(environment: Environment, tmp_path: Path) -> None:
    search = ["search", "--space", "smile", "--smoke", "--json", "out.json"]
    printed = run(environment, "smile-tuner", *search, folder=tmp_path)
    outcome = json.loads((tmp_path / "out.json").read_text())
    assert outcome["best_trial"] in printed
    assert Path(outcome["directory"]).is_relative_to(tmp_path)
    recorded = json.loads((Path(outcome["directory"]) / "environment.json").read_text())
    assert recorded["command"] == f"{environment.bin / 'smile-tuner'} {' '.join(search)}"
