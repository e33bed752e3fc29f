"""Capacity of a cluster, and the share of it that each trial gets: arithmetic, without Ray."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from trainables.errors import BadInput, Problem
from tuner.experiment.precision import Precisions
from tuner.experiment.settings import ResourceSettings
from tuner.resources.gpu_memory import trials_per_gpu

ACCELERATOR_PREFIX = "accelerator_type:"
"""Prefix of the Ray resource that names the type of a node's GPUs."""


NOT_APPLES = " of NVIDIA's or AMD's (Apple's is not used)" if sys.platform == "darwin" else ""


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of a cluster, a node or this machine. `accelerator_type` is the type of its GPUs, "" if unknown."""

    cpus: float
    gpus: float
    nodes: int = 1
    accelerator_type: str = ""

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Self:
        """Returns the capacity of a node that `ray.nodes()` describes."""
        resources = node["Resources"]
        types = [n.removeprefix(ACCELERATOR_PREFIX) for n in resources if n.startswith(ACCELERATOR_PREFIX)]
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        return cls(cpus, gpus, accelerator_type=types[0] if types else "")

    def __str__(self) -> str:
        nodes = f"{self.nodes} node" + ("s" if self.nodes != 1 else "")
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs on {nodes}"


@dataclass(frozen=True)
class Share:
    """CPUs and GPUs of each trial, and the number of trials that run at once.

    `note` is a line for the user if this is less than was asked for. Only an auto share has `nodes`, those that it
    divides; `limit`, the number of trials at once that was asked for (None: as many as fit); and `context`, the
    fraction of a GPU that a process takes outside of torch's allocator. `devices` describes a GPU, or a processor, of
    each kind that trials train on, and `precisions` is what `auto` means on all of them.
    """

    cpus: float
    gpus: float
    concurrency: int
    note: str = ""
    nodes: tuple[Capacity, ...] = ()
    limit: int | None = None
    context: float = 0.0
    others: float = 0.0
    """Fraction of a GPU that processes of others take, as a desktop's."""
    devices: tuple[str, ...] = ()
    precisions: Precisions = field(default_factory=Precisions)

    @property
    def is_auto(self) -> bool:
        """Whether its GPU fraction is measured, or to be measured, and grows when it is too small."""
        return bool(self.nodes)

    def at_least(self, least: float | None) -> Self:
        """Returns the share with at least the fraction `least` of a GPU for each trial, if it is auto; else itself."""
        return self.sized_for(least) if self.is_auto and least is not None and least > self.gpus else self

    def sized_for(self, least: float) -> Self:
        """Divides the nodes of an auto share among trials that need the fraction `least` of a GPU each."""
        gpus = 1 / trials_per_gpu(least, self._max_trials_per_gpu)
        num_fitting = sum(_fit_on(node, self.cpus, gpus) for node in self.nodes)
        return replace(self, gpus=gpus, concurrency=min(num_fitting, self.limit or num_fitting))

    def spread_over(self, num_jobs: int | None) -> Self:
        """Returns an auto share so large that `num_jobs` (None: any number) fill all GPUs.

        Ray packs as many jobs on the first GPU as fit there, while others are idle. A fixed share stays what was asked.

        >>> share = share_of([Capacity(64, 8)], ResourceSettings(gpus="auto"), "auto").sized_for(0.1)
        >>> share.gpus, share.spread_over(3).gpus, share.spread_over(20).gpus
        (0.125, 1.0, 0.3333333333333333)
        """
        num_gpus = sum(int(node.gpus) for node in self.nodes)
        if not num_jobs or not num_gpus:
            return self
        return self.at_least(1 / math.ceil(num_jobs / num_gpus))

    @property
    def _max_trials_per_gpu(self) -> int:
        """Number of trials on a GPU that the CPUs, and the concurrency asked for, admit."""
        gpu_nodes = [node for node in self.nodes if node.gpus >= 1]
        by_cpus = max(math.ceil(_fit_on(node, self.cpus, 0) / int(node.gpus)) for node in gpu_nodes)
        asked = math.ceil(self.limit / sum(int(node.gpus) for node in gpu_nodes)) if self.limit else by_cpus
        return min(by_cpus, asked)


def this_machine() -> Capacity:
    """Returns the capacity that Ray would detect on this machine, without starting it."""
    import torch  # only here, as the import takes seconds

    return Capacity(cpus=num_cpus(), gpus=torch.cuda.device_count())


def num_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of cores that this process may use: those it is bound to, and no more than its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS: none
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no quota ("max")
        quota, period = (cgroup / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def share_of(nodes: list[Capacity], asked: ResourceSettings, concurrency: int | str) -> Share:
    """Divides a cluster among trials.

    Each trial runs on one node, so that the number of trials is the sum of those that fit on each node. Without any
    GPU, trials run on the CPU, which `note` says. An auto share is a whole GPU until it is measured.

    >>> share_of([Capacity(cpus=8, gpus=1)], ResourceSettings(cpus=1, gpus=0.25), "auto").concurrency
    4

    Raises:
        BadInput: if not even one trial fits on any node.
    """
    note = ""
    has_gpus = any(node.gpus for node in nodes)
    is_auto = asked.gpus == "auto" or (asked.gpus is None and has_gpus)
    gpus = 1.0 if is_auto else float(asked.gpus or 0)
    if gpus and not has_gpus:
        note = f"resources.gpus is {asked.gpus}, but there is no GPU{NOT_APPLES}: trials run on the CPU"
        gpus = 0.0
    num_fitting = sum(_fit_on(node, asked.cpus, gpus) for node in nodes)
    if num_fitting < 1:
        expected = f"a trial that fits on a node (largest: {max(nodes, key=lambda n: (n.gpus, n.cpus))})"
        got = f"cpus: {asked.cpus:g}, gpus: {'auto' if is_auto else f'{gpus:g}'}"
        raise BadInput(Problem("resources", expected, got))
    limit = None if concurrency == "auto" else int(concurrency)
    if is_auto and gpus:
        return Share(asked.cpus, gpus, min(num_fitting, limit or num_fitting), nodes=tuple(nodes), limit=limit)
    return Share(asked.cpus, gpus, limit or num_fitting, note)


def _fit_on(node: Capacity, cpus: float, gpus: float) -> int:
    fitting = int(node.cpus / cpus + 1e-9)
    if not gpus:
        return fitting
    whole_gpus = int(node.gpus)
    return min(fitting, int(1 / gpus + 1e-9) * whole_gpus)


def total(nodes: list[Capacity]) -> Capacity:
    """Returns the capacity of the nodes together."""
    return Capacity(sum(n.cpus for n in nodes), sum(n.gpus for n in nodes), len(nodes))
