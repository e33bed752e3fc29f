"""What a cluster has and lacks for an experiment: nodes, packages, files. Standard library, Ray and `packaging` only,
because it runs on the head before anything of the project is installed there.
"""

from __future__ import annotations

import json
import platform
import time
import tomllib
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
