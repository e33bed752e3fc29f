"""Facts about a cluster that decide whether an experiment can run on it: nodes, packages, files.

Imports the standard library, Ray and `packaging` alone, and modules of this project of which the same holds: it runs on
nodes that may lack the project's requirements, in order to say so. What else a function needs, it imports itself.
`tests/deploy/test_findings.py` holds this.
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

from deploy.worker_request import WorkerRequest
from trainables.errors import Problem

PYPROJECT = Path("pyproject.toml")

PREFIX = "findings "
"""Start of the line of a job's log that holds the findings."""

VISIBLE_WITHIN_S = 10
"""How long a file that one node wrote may take to be seen by another: NFS caches the contents of folders."""


@dataclass(frozen=True)
class Findings:
    """Versions and size of a cluster, and what stands in the way of an experiment there.

    `problems` are mistakes in the experiment, `refusals` are shortcomings of the cluster, `notes` are only shown.
    `awaited` are workers for which the job has to ask, and to wait, before the search; None where it need not.
    `directory` is the job's own folder, `mirror` the place of its copy in an object store (empty: none).
    """

    ray: str = ray.__version__
    python: str = field(default_factory=platform.python_version)
    nodes: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    awaited: WorkerRequest | None = None
    directory: str = ""
    mirror: str = ""
    problems: tuple[Problem, ...] = ()
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_line(self) -> str:
        """One line of a job's log, from which `from_log` reads the findings."""
        return PREFIX + json.dumps(asdict(self))

    @classmethod
    def from_log(cls, log: str) -> Findings | None:
        """Reads the last such line of a log; None where there is none."""
        lines = [line for line in log.splitlines() if line.startswith(PREFIX)]
        if not lines:
            return None
        found = json.loads(lines[-1].removeprefix(PREFIX))
        awaited = found["awaited"]
        found |= {
            "awaited": None if awaited is None else WorkerRequest(**awaited),
            "problems": tuple(Problem(**problem) for problem in found["problems"]),
            "refusals": tuple(found["refusals"]),
            "notes": tuple(found["notes"]),
        }
        return cls(**found)


@dataclass(frozen=True)
class NodeFacts:
    """One node's answer. `token` is the content of the file that the head wrote, None where the node saw no file;
    `missing` are requirements that its environment does not meet; `note` is only shown; `cached` is as `token`, of the
    file in the folder of decoded images."""

    node: str
    token: str | None
    missing: tuple[str, ...]
    note: str = ""
    cached: str | None = None


def inspect_node(node: str, file: str | None, has_gpus: bool, cache_file: str | None = None) -> NodeFacts:
    """Collects the facts of the node that it runs on, whose address is `node`; without a file, none is read."""
    missing = missing_requirements(PYPROJECT)
    note = ""
    if has_gpus and not missing:
        import torch

        if torch.version.cuda is None and torch.version.hip is None:
            note = "has GPUs, but its PyTorch is built for the CPU alone"
    token, cached = (_read_when_visible(Path(each)) if each else None for each in (file, cache_file))
    return NodeFacts(node, token, missing, note, cached)


def missing_requirements(pyproject: Path) -> tuple[str, ...]:
    """The project's requirements that this environment does not meet, each with the version that is there instead."""
    requirements = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    missing = []
    for requirement in map(Requirement, requirements):
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"{requirement} (there is none)")
        else:
            if not requirement.specifier.contains(installed, prereleases=True):
                missing.append(f"{requirement} (there is {installed})")
    return tuple(missing)


def _read_when_visible(file: Path) -> str | None:
    deadline = time.monotonic() + VISIBLE_WITHIN_S
    while time.monotonic() < deadline:
        try:
            return file.read_text()
        except OSError:
            time.sleep(0.5)
    return None
