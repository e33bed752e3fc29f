"""Writes the versions that the images are built with, from the environment that the tests have run in.

python -m deploy.constraints > deploy/constraints.txt
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYPROJECT = Path("pyproject.toml")
EXTRAS = ("cluster", "text")
"""Extras of the project that are in its image."""
HEADER = "# Versions of the images' packages, by `python -m deploy.constraints`. No source is named: pip knows it.\n"


def main() -> int:
    """The command. Exit code 0."""
    found = versions(requirements_of(PYPROJECT))
    print(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(found.items())), end="")
    return 0


def requirements_of(pyproject: Path) -> list[str]:
    """Reads what the project's image requires."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]


def versions(requirements: Iterable[str]) -> dict[str, str]:
    """Returns name → installed version of everything that is required, directly or not. The local part of a version is
    left out, as of `2.9.0+cpu`: the index decides for which hardware a build is."""
    found: dict[str, str] = {}
    asked: set[tuple[str, str]] = set()
    waiting = list(_required(requirements, ""))
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        found[name] = Version(installed.version).public
        waiting += _required(installed.requires or (), extra)
    return found


def _required(requirements: Iterable[str], extra: str) -> Iterator[tuple[str, str]]:
    """Yields (name, extra) of the requirements that hold on this platform, with that extra of their package."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for each in ("", *sorted(requirement.extras)):
                yield canonicalize_name(requirement.name), each


if __name__ == "__main__":
    sys.exit(main())
