"""Capacity of a cluster, and the share of it that each trial gets: arithmetic, without Ray."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from trainables.errors import BadInput, Problem
from tuner.experiment.precision import Precisions
from tuner.experiment.settings import RESOLUTION, ResourceSettings
from tuner.messages.wording import amount
from tuner.resources.gpu_memory import trials_per_gpu

ACCELERATOR_PREFIX = "accelerator_type:"
"""Prefix of the Ray resource that names the type of a node's GPUs."""


NOT_APPLES = " of NVIDIA's or AMD's (Apple's is not used)" if sys.platform == "darwin" else ""


def of_kind(accelerator: str) -> dict[str, float]:
    """Returns the resource, as Ray itself asks for it, that keeps a task to the nodes with GPUs of a kind ("": any)."""
    return {f"{ACCELERATOR_PREFIX}{accelerator}": 0.001} if accelerator else {}


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
        return f"{amount(self.cpus, 'CPU')} and {amount(self.gpus, 'GPU')} on {nodes}"


@dataclass(frozen=True)
class KindNeed:
    """What a trial needs of a GPU of one kind, as measured: the fractions `gpus`, and `context` of it for CUDA's own.
    `accelerator` is the name that Ray has for the kind; processes of others hold the fraction `others`."""

    accelerator: str
    gpus: float
    context: float
    others: float = 0.0


@dataclass(frozen=True)
class Share:
    """CPUs and GPUs of each trial, and the number of trials that run at once.

    `concurrency` is the number of trials that fit on the cluster, at most `limit`, the number that was asked for (None:
    as many as fit). `note` is a line for the user if the share is another than was asked for. Only an auto share has
    `nodes`, those that it divides; `context`, the fraction of a GPU that a process takes outside of torch's allocator,
    and `others`, the one that processes of others hold; and, where GPUs of several kinds were measured, `kinds`, of
    which `gpus` is the largest fraction. A share of trials on one kind alone has its `accelerator`. `devices` describes
    a GPU, or a processor, of each kind that trials train on, and `precisions` is what `auto` means on all of them.
    """

    cpus: float
    gpus: float
    concurrency: int
    note: str = ""
    nodes: tuple[Capacity, ...] = ()
    limit: int | None = None
    context: float = 0.0
    others: float = 0.0
    kinds: tuple[KindNeed, ...] = ()
    accelerator: str = ""
    devices: tuple[str, ...] = ()
    precisions: Precisions = field(default_factory=Precisions)

    @property
    def is_auto(self) -> bool:
        """Whether its GPU fraction is measured, or to be measured, and grows when it is too small."""
        return bool(self.nodes)

    def at_least(self, least: float | None) -> Self:
        """Returns the share with at least the fraction `least` of a GPU for each trial, if it is auto; else itself."""
        if not self.is_auto or least is None or least <= self.gpus:
            return self
        return self._with_kinds_of_at_least(least) if self.kinds else self.sized_for(least)

    def _with_kinds_of_at_least(self, least: float) -> Self:
        return self.with_kinds([replace(kind, gpus=max(kind.gpus, least)) for kind in self.kinds])

    def fits_on(self, node: Capacity) -> bool:
        """Whether a trial fits on an empty node, in a whole GPU of it if the share of one is yet to be measured."""
        return _fit_on(node, self.cpus, 1.0 if self.is_auto else self.gpus) > 0

    def sized_for(self, least: float) -> Self:
        """Divides the nodes of an auto share among trials that need the fraction `least` of a GPU each."""
        return replace(self, gpus=1 / trials_per_gpu(least, self._max_trials_per_gpu)).on(self.nodes)

    def with_kinds(self, kinds: Sequence[KindNeed]) -> Self:
        """Returns an auto share with the needs on each kind of GPU; the largest counts where no kind is chosen."""
        largest = max(kinds, key=lambda kind: kind.gpus)
        whole = replace(self, context=largest.context, others=largest.others).sized_for(largest.gpus)
        return replace(whole, kinds=tuple(kinds)).on(self.nodes) if len(kinds) > 1 else whole

    def on(self, nodes: Sequence[Capacity]) -> Self:
        """Returns the share on a cluster that has these nodes now: other places, but the same part of a GPU."""
        share = replace(self, nodes=tuple(nodes) or self.nodes) if self.is_auto else self
        fitting = sum(each.concurrency for each in share.by_kind()) if share.kinds and nodes else share._num_on(nodes)
        return replace(share, concurrency=min(fitting, self.limit or fitting))

    def by_kind(self) -> tuple[Self, ...]:
        """Returns the share of the trials on each kind of GPU, the share itself if they were not measured one by one.

        A kind that was not measured, as its nodes came later, has the largest share.
        """
        if not self.kinds:
            return (self,)
        needs = {kind.accelerator: kind for kind in self.kinds}
        largest = max(self.kinds, key=lambda kind: kind.gpus)
        shares = []
        fitting = [node for node in self.nodes if self.fits_on(node)]
        for accelerator in sorted({node.accelerator_type for node in fitting}):
            need = needs.get(accelerator, largest)
            nodes = tuple(node for node in fitting if node.accelerator_type == accelerator)
            own = replace(self, nodes=nodes, kinds=(), accelerator=accelerator)
            shares.append(replace(own, context=need.context, others=need.others).sized_for(need.gpus))
        return tuple(shares)

    def most_on_a_node(self, nodes: Sequence[Capacity]) -> int:
        """Number of trials that fit on the largest of `nodes`."""
        return max((self._num_on([node]) for node in nodes), default=0)

    def _num_on(self, nodes: Sequence[Capacity]) -> int:
        return sum(_fit_on(node, self.cpus, self.gpus) for node in nodes)

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
        least = 1 / math.ceil(num_jobs / num_gpus)
        return self._with_kinds_of_at_least(least) if self.kinds else self.at_least(least)

    @property
    def _max_trials_per_gpu(self) -> int:
        """Number of trials on a GPU that the CPUs, and the concurrency asked for, admit."""
        gpu_nodes = [node for node in self.nodes if node.gpus >= 1]
        by_cpus = max((math.ceil(_fit_on(node, self.cpus, 0) / int(node.gpus)) for node in gpu_nodes), default=1)
        asked = (
            math.ceil(self.limit / sum(int(node.gpus) for node in gpu_nodes)) if self.limit and gpu_nodes else by_cpus
        )
        return min(by_cpus, asked)


def this_machine() -> Capacity:
    """Returns the capacity of a Ray that is started on this machine, without starting it."""
    import torch  # only here, as the import takes seconds

    return Capacity(cpus=num_cpus(), gpus=num_mig_slices() or torch.cuda.device_count())


def num_mig_slices() -> int:
    """Number of slices of GPUs that this process may use, by the identifiers in CUDA_VISIBLE_DEVICES; 0 if there are
    none.

    CUDA itself shows a process the first of them alone, and Ray counts whole GPUs. Told their number, Ray gives each
    worker the identifier of one.
    """
    return sum(name.strip().startswith("MIG-") for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","))


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
    GPU, trials run on the CPU, which `note` says. An auto share is a whole GPU until it is measured; a number is
    rounded to 1/k, as k trials are what fits on a GPU.

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
    elif gpus:
        gpus, note = _unit_fraction(gpus)
    num_fitting = sum(_fit_on(node, asked.cpus, gpus) for node in nodes)
    if num_fitting < 1:
        expected = f"a trial that fits on a node (largest: {max(nodes, key=lambda n: (n.gpus, n.cpus))})"
        got = f"cpus: {asked.cpus:g}, gpus: {'auto' if is_auto else f'{gpus:g}'}"
        raise BadInput(Problem("resources", expected, got))
    limit = None if concurrency == "auto" else int(concurrency)
    at_once = min(num_fitting, limit or num_fitting)
    return Share(asked.cpus, gpus, at_once, note, nodes=tuple(nodes) if is_auto and gpus else (), limit=limit)


def _unit_fraction(gpus: float) -> tuple[float, str]:
    """Rounds a fraction of a GPU up to 1/k, and says so in a line if it changes.

    Ray adds the rests of a node's GPUs, and sends a trial to a node where no single GPU has room for it
    (https://github.com/ray-project/ray/issues/52133).
    """
    num_trials = trials_per_gpu(gpus, places=int(1 / RESOLUTION))
    unit = 1 / num_trials
    if abs(unit - gpus) <= RESOLUTION:
        return gpus, ""
    shared = "a trial has a GPU to itself" if num_trials == 1 else f"{num_trials} trials share a GPU, {unit:.3g} each"
    return unit, f"resources.gpus is {gpus:g}: {shared}, as no more fit"


def _fit_on(node: Capacity, cpus: float, gpus: float) -> int:
    fitting = int(node.cpus / cpus + 1e-9)
    if not gpus:
        return fitting
    whole_gpus = int(node.gpus)
    return min(fitting, int(1 / gpus + 1e-9) * whole_gpus)


def total(nodes: list[Capacity]) -> Capacity:
    """Returns the capacity of the nodes together."""
    return Capacity(sum(n.cpus for n in nodes), sum(n.gpus for n in nodes), len(nodes))
