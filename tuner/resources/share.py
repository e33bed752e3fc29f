"""What a cluster has, and what one trial gets of it: arithmetic, without Ray."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from trainables.errors import BadInput, Problem
from tuner.experiment.settings import ResourceSettings
from tuner.resources.gpu_memory import trials_per_card

CARD_KIND = "accelerator_type:"  # as Ray names the resource by which a node tells what cards it has


@dataclass(frozen=True)
class Capacity:
    """What a cluster, or this machine, has. `card` is the kind of its GPUs, where it tells."""

    cpus: float
    gpus: float
    nodes: int = 1
    card: str = ""

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Self:
        """What a node has, as `ray.nodes()` describes it."""
        has = node["Resources"]
        kinds = [name.removeprefix(CARD_KIND) for name in has if name.startswith(CARD_KIND)]
        return cls(has.get("CPU", 0.0), has.get("GPU", 0.0), card=kinds[0] if kinds else "")

    def __str__(self) -> str:
        nodes = f"{self.nodes} node" + ("s" if self.nodes != 1 else "")
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs on {nodes}"


@dataclass(frozen=True)
class Share:
    """What each trial gets, and how many run at once. `note` says where that is less than was asked for.

    One that is auto knows the `nodes` that it divides, how many trials at once were asked for (`limit`; None: as many
    as fit), and what of a card a process takes beyond what torch allocates (`context`).
    """

    cpus: float
    gpus: float
    concurrency: int
    note: str = ""
    nodes: tuple[Capacity, ...] = ()
    limit: int | None = None
    context: float = 0.0

    @property
    def is_auto(self) -> bool:
        """Whether it is a measured one, or to be measured, which grows where it is too little."""
        return bool(self.nodes)

    def at_least(self, least: float | None) -> Self:
        """What each trial gets where one was found to need `least` of a card; this, where it is auto and gives more."""
        return self.dividing_cards_by(least) if self.is_auto and least is not None and least > self.gpus else self

    def dividing_cards_by(self, least: float) -> Self:
        """The nodes of a share that is auto, divided among trials that need `least` of a card each."""
        gpus = 1 / trials_per_card(least, self._places_a_card)
        room = sum(_fit_on(node, self.cpus, gpus) for node in self.nodes)
        return replace(self, gpus=gpus, concurrency=min(room, self.limit or room))

    @property
    def _places_a_card(self) -> int:
        """Trials on a card beyond which there are no CPUs for them, or nobody asked for so many."""
        with_cards = [node for node in self.nodes if node.gpus >= 1]
        by_cpus = max(math.ceil(_fit_on(node, self.cpus, 0) / int(node.gpus)) for node in with_cards)
        asked = math.ceil(self.limit / sum(int(node.gpus) for node in with_cards)) if self.limit else by_cpus
        return min(by_cpus, asked)


def this_machine() -> Capacity:
    """What Ray would find here, without starting it."""
    import torch  # only where it is needed: the import takes seconds

    return Capacity(cpus=num_cpus(), gpus=torch.cuda.device_count())


def num_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that this process may use: those it is bound to, and no more than its container's quota."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no quota ("max")
        quota, period = (cgroup / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def share_of(nodes: list[Capacity], asked: ResourceSettings, concurrency: int | str) -> Share:
    """Divides a cluster among trials. Raises BadInput where not even one fits on any node.

    Each trial runs on one node, so what counts is how many fit on each, not on the sum. A trial that asks for a GPU
    where there is none runs on its CPUs: the stated fallback. One that is auto gets a whole card, until it is measured.
    """
    note = ""
    gpus = 1.0 if asked.gpus == "auto" else asked.gpus
    if gpus and not any(node.gpus for node in nodes):
        note = f"resources.gpus is {asked.gpus}, but there is no GPU: trials run on the CPU"
        gpus = 0.0
    room = sum(_fit_on(node, asked.cpus, gpus) for node in nodes)
    if room < 1:
        expected = f"a trial that fits on a node (largest: {max(nodes, key=lambda n: (n.gpus, n.cpus))})"
        raise BadInput(Problem("resources", expected, f"cpus: {asked.cpus:g}, gpus: {asked.gpus}"))
    limit = None if concurrency == "auto" else int(concurrency)
    if asked.gpus == "auto" and gpus:
        return Share(asked.cpus, gpus, min(room, limit or room), nodes=tuple(nodes), limit=limit)
    return Share(asked.cpus, gpus, limit or room, note)


def _fit_on(node: Capacity, cpus: float, gpus: float) -> int:
    fitting = int(node.cpus / cpus + 1e-9)
    if not gpus:
        return fitting
    whole_cards = int(node.gpus)
    on_gpus = int(1 / gpus + 1e-9) * whole_cards if gpus <= 1 else int(whole_cards / gpus)
    return min(fitting, on_gpus)


def total(nodes: list[Capacity]) -> Capacity:
    """The nodes together."""
    return Capacity(sum(n.cpus for n in nodes), sum(n.gpus for n in nodes), len(nodes))
