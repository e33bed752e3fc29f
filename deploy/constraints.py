"""Writes the versions that the images are built with, from the environment that the tests have run in.

python -m deploy.constraints > deploy/constraints.txt
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = "smile-tuner"
EXTRAS = ("cluster", "text")
"""Extras of the project that are in its image."""
HEADER = "# Versions of the images' packages, by `python -m deploy.constraints`. No source is named: pip knows it.\n"


def main() -> int:
    """The command. Exit code 0."""
    print(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(versions().items())), end="")
    return 0


def versions(project: str = PROJECT, extras: Iterable[str] = EXTRAS) -> dict[str, str]:
    """Returns name → version of everything that `project[extras]` requires here, directly or not. The local part of a
    version is left out, as of `2.9.0+cpu`: the index decides for which hardware a build is."""
    found: dict[str, str] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(project, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        if name != project:
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
