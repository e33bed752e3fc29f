"""Runs the quick tests with the oldest version of every dependency that pyproject.toml allows.

python -m tests.packaging.lower_bounds

Makes an environment of the running interpreter in a temporary folder, with each requirement at its lower bound, those
of the extras `text` and `cluster` included; one without a bound, and the tools of `dev`, are at their newest versions.
PyTorch and what it consists of on a GPU are linked from the running environment, at its versions: an older one is some
gigabytes more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.packaging.environments import Environment, clean_environment, required_distributions

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGES = "tests/deploy/test_settings.py::test_versions_are_those_of_pyproject_and_of_this_environment"
"""It compares the environment with the versions in the images, which are not the oldest."""

PYTEST = ("--numprocesses", "2", "--dist", "loadgroup", "-W", "default", "--deselect", IMAGES)
"""Warnings are no errors here: old versions of others are warned of by new ones."""

LARGE = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
"""What is linked instead of installed: names, and beginnings of names."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the environment and runs the tests. Returns pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging.lower_bounds", description=__doc__)
    parser.add_argument("pytest", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="of pytest")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        environment = make_environment(Path(folder))
        command = [str(environment.bin / "python"), "-m", "pytest", *PYTEST, *arguments.pytest]
        return subprocess.run(command, cwd=ROOT, env=clean_environment() | {"OMP_NUM_THREADS": "1"}).returncode


def make_environment(folder: Path) -> Environment:
    """Makes an environment in `folder` with every dependency at its lower bound, and prints what it pinned."""
    environment = Environment.make(folder / "environment")
    installed = required_distributions(["torch", "torchvision"])
    linked = {name: dist for name, dist in installed.items() if name.startswith(LARGE)}
    environment.link(linked.values())
    requirements, tools = users_requirements(), extra("dev")
    pins = lower_bounds(requirements) | {name: dist.version for name, dist in linked.items()}
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    print(constraints.read_text(), flush=True)
    environment.install("--constraint", str(constraints), *map(str, (*requirements, *tools)))
    return environment


def users_requirements() -> list[Requirement]:
    """The requirements of pyproject.toml and of the extras that a user may install."""
    return [*map(Requirement, PROJECT["dependencies"]), *extra("text"), *extra("cluster")]


def extra(name: str) -> list[Requirement]:
    """The requirements of an extra, without the project's own name, which stands for its other extras."""
    requirements = map(Requirement, PROJECT["optional-dependencies"][name])
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


def lower_bounds(requirements: Iterable[Requirement]) -> dict[str, str]:
    """The lower bound of each requirement that has one, by normalised name; the greatest where it stands twice."""
    bounds: dict[str, Version] = {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                bounds[name] = max(Version(specifier.version), bounds.get(name, Version("0")))
    return {name: str(version) for name, version in bounds.items()}


if __name__ == "__main__":
    sys.exit(main())
