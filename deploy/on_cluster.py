"""Run on a cluster's head by `deploy.submit`, as small jobs beside the search: looks whether it can run there, and
sends its results home.

    python -m deploy.on_cluster look --space space.yaml --job NAME [--resume] [--workers N]
    python -m deploy.on_cluster send --directory DIRECTORY

What they find is printed as lines that a program can tell from whatever else is in a job's log. This module needs
nothing but Python and what comes with Ray: it also runs where the project's requirements are not met, and says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from packaging.requirements import Requirement

FINDINGS = "findings "
PYPROJECT = Path("pyproject.toml")
TO_BE_SEEN_S = 10
"""How long a file that one node wrote may take to be seen by another: NFS caches what a folder holds."""


@dataclass
class Findings:
    """What there is, and what stands in the way. `problems` concern the experiment (BadInput's parts), `refusals` the
    cluster; `notes` are only said. `awaited` are the `workers`, and the `cpus` and `gpus` of each, that the job is to
    ask for and to wait for before it searches; empty where it need not."""

    ray: str = ray.__version__
    python: str = field(default_factory=platform.python_version)
    nodes: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    awaited: dict[str, int] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """As it is printed."""
        return FINDINGS + json.dumps(asdict(self))

    @classmethod
    def from_log(cls, log: str) -> Findings | None:
        """Reads `line` back; None where there is none."""
        lines = [line for line in log.splitlines() if line.startswith(FINDINGS)]
        return cls(**json.loads(lines[-1].removeprefix(FINDINGS))) if lines else None


@dataclass
class NodeFacts:
    """What one node says of itself; `token` is what it read in the file that the head wrote, None where it saw none."""

    token: str | None
    missing: list[str]
    note: str = ""


def look_around(file: str | None, has_gpus: bool) -> NodeFacts:
    """Run on each node; without a file, nothing is to be read."""
    facts = NodeFacts(_read_once_seen(Path(file)) if file else None, missing_requirements(PYPROJECT))
    if has_gpus and not facts.missing:
        import torch

        if torch.version.cuda is None and torch.version.hip is None:
            facts.note = "has GPUs, but its PyTorch is built for the CPU alone"
    return facts


def missing_requirements(pyproject: Path) -> list[str]:
    """The project's requirements that this environment does not meet, each with what is there instead."""
    requirements = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    missing = []
    for requirement in map(Requirement, requirements):
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"{requirement} (there is none)")
        else:
            if not requirement.specifier.contains(there, prereleases=True):
                missing.append(f"{requirement} (there is {there})")
    return missing


def _read_once_seen(file: Path) -> str | None:
    deadline = time.monotonic() + TO_BE_SEEN_S
    while time.monotonic() < deadline:
        try:
            return file.read_text()
        except OSError:
            time.sleep(0.5)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.on_cluster")
    verbs = parser.add_subparsers(dest="verb", required=True)
    look = verbs.add_parser("look", help="whether an experiment can run here")
    look.add_argument("--space", type=Path, required=True)
    look.add_argument("--job", required=True)
    look.add_argument("--resume", action="store_true")
    look.add_argument("--workers", type=int, default=0)
    send = verbs.add_parser("send", help="print a job's results")
    send.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args(argv)
    if missing := missing_requirements(PYPROJECT):
        print(Findings(refusals=[f"the head lacks {', '.join(missing)}"]).line())
        return 0
    from deploy import errands  # needs the project's requirements

    if arguments.verb == "look":
        print(errands.look(arguments.space, arguments.job, arguments.resume, arguments.workers).line())
        return 0
    return errands.send(arguments.directory)


if __name__ == "__main__":
    sys.exit(main())
