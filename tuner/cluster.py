"""Ray: joining or starting a cluster, what it has, and what one trial gets of it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import ray
from ray.exceptions import (
    ActorUnavailableError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from trainables.errors import BadInput, Problem
from tuner.gpu_share import ran_out_of_card, trials_a_card
from tuner.settings import ResourceSettings

# Read by glibc and OpenMP when a process starts. Training allocates and frees the same large blocks at every step;
# left alone, glibc gives each back to the kernel and faults it in again (measured: docs/decisions/0007). Threads that
# spin while they wait slow down the trial beside them.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who asked for no GPU sees none, rather than all of them
}

# Ray Tune by default logs every result three times to files, prints tables, and takes Ctrl-C for itself.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # nobody reads its snapshots, and one that a full disk refuses ends the search
}

NUM_STARTS = 3
"""How often a cluster of this machine's own is tried to be started. On a busy machine a part of Ray comes up later than
another waits for it, which is 15 s (https://github.com/ray-project/ray/issues/65983)."""

MORE_ROOM = (
    "take fewer images or smaller ones (data.train_images, data.size_px), or more memory: for a cluster, "
    "`ray start --object-store-memory`; for this machine's own, RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION"
)
LESS_MEMORY = "fewer trials at once (search.concurrency) or a smaller batch need less"
LOW_ON_MEMORY = "running low on memory"  # as Ray's memory monitor says it
CARD_KIND = "accelerator_type:"  # as Ray names the resource by which a node tells what cards it has

logger = logging.getLogger(__name__)

MAX_RETRIES = 2
"""How often a task whose worker died is started again."""

Result = TypeVar("Result")


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

    def grown_to(self, least: float | None) -> Self:
        """What each trial gets where one was found to need `least` of a card; this, where it is auto and gives more."""
        return self.giving(least) if self.is_auto and least is not None and least > self.gpus else self

    def giving(self, least: float) -> Self:
        """The nodes of a share that is auto, divided among trials that need `least` of a card each."""
        gpus = 1 / trials_a_card(least, self._places_a_card)
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
        must_hold = f"one trial fits on a node (largest: {max(nodes, key=lambda n: (n.gpus, n.cpus))})"
        raise BadInput(Problem("resources", must_hold, f"cpus: {asked.cpus:g}, gpus: {asked.gpus}"))
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


@contextlib.contextmanager
def cluster(address: str | None, data_bytes: int = 0) -> Iterator[list[Capacity]]:
    """Joins the cluster at `address`, or starts one of this machine's own, for the block; gives what each node has.

    Raises:
        BadInput: where nothing answers at `address`, Ray does not start here, or its object store has no room for
            `data_bytes` of decoded data.
    """
    os.environ.update(TUNE_ENVIRONMENT)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address is None:
        for name, value in WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # the raylet hands its environment to its workers
        options |= {"address": "local", "include_dashboard": False, "num_cpus": this_machine().cpus}
    else:
        options |= {"address": address, "runtime_env": {"env_vars": WORKER_ENVIRONMENT}}
    try:
        _connect(options, attempts=1 if address else NUM_STARTS)
    except Exception as error:
        must_hold = "a Ray cluster answers there" if address else "Ray can be started on this machine"
        reason = str(error).strip().splitlines()[0]
        raise BadInput(Problem("--address", must_hold, f"{address or 'no address'}: {reason}")) from None
    try:
        nodes = alive_nodes()
        check_store(nodes, data_bytes)
        yield [Capacity.of(node) for node in nodes]
    finally:
        ray.shutdown()


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster that this process has joined, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _connect(options: dict[str, Any], attempts: int) -> None:
    """Ray's own errors are of all kinds: a plain Exception where a part of it did not come up in time."""
    try:
        ray.init(**options)
    except Exception as error:
        ray.shutdown()
        if attempts == 1:
            raise
        logger.warning("Ray did not start, and is tried again: %s", one_line(error))
        _connect(options, attempts - 1)


def as_they_end(
    task: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], share: Share, accelerator: str = ""
) -> Iterator[Result]:
    """Runs `task(*job)` for every job on the cluster, as many at a time as the share says; yields what each returns as
    it ends. Arguments from `shared` arrive as what was shared. `accelerator` is the kind of card that is to be used.

    Raises:
        WorkerFailed: where a job raised, or its process died too often; the others are then ended, too.
        CardFull: where that was for want of memory on a card.
    """
    # A process that has used one card stays on it, so that with GPUs each job gets a process of its own.
    once: dict[str, Any] = {"num_gpus": share.gpus, "max_calls": 1} if share.gpus else {}
    if accelerator:
        once["accelerator_type"] = accelerator
    remote: Any = ray.remote(num_cpus=share.cpus, max_retries=MAX_RETRIES, **once)(task)
    waiting = deque(jobs)
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < share.concurrency:
            running.append(remote.remote(*waiting.popleft()))
        (ready,), running = ray.wait(running, num_returns=1)
        try:
            result = ray.get(ready)
        except RayError as error:
            for other in running:
                ray.cancel(other, force=True)
            why = why_it_died(error)
            raise (CardFull if ran_out_of_card(why) else WorkerFailed)(why) from error
        yield result


class WorkerFailed(Exception):
    """A job raised, or its process died each time that it was tried."""


class CardFull(WorkerFailed):
    """A job's part of a card was too little."""


def shared(value: Any) -> Any:
    """`value` in the object store, once for all jobs that it is handed to. Raises MemoryError where it does not fit."""
    with full_store_said():
        return ray.put(value)


@contextlib.contextmanager
def full_store_said() -> Iterator[None]:
    """Says what to do where Ray's object store has no room for what the block puts into it, by a MemoryError."""
    try:
        yield
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise MemoryError(f"Ray's object store is full, and so is the disk behind it; {MORE_ROOM}") from error


def check_store(nodes: Iterable[dict[str, Any]], num_bytes: int) -> None:
    """Raises BadInput where the decoded data does not fit into the object store of every node that trials may run on.

    Ray would put what is left over on a disk, from which each batch would then be read.
    """
    stores = [n["Resources"].get("object_store_memory", 0.0) for n in nodes if n["Resources"].get("CPU")]
    if stores and min(stores) < num_bytes:
        must_hold = f"decoded, the data fits into Ray's object store, {min(stores) / 1e9:.2f} GB ({MORE_ROOM})"
        raise BadInput(Problem("data", must_hold, f"{num_bytes / 1e9:.2f} GB"))


def one_line(error: BaseException) -> str:
    """An exception in one line: its class, and the first line of what it says. A user's mistake needs no class."""
    text = str(error).strip().splitlines()
    if isinstance(error, BadInput):
        return text[0] + (f" (and {len(text) - 1} more)" if len(text) > 1 else "")
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def why_it_died(error: Exception | None) -> str:
    """What Ray raised for a task or an actor, in one line: what its code raised, or what is known of its end."""
    if error is None:
        return "no reason known"
    if isinstance(error, RayTaskError):  # raised by its code: Ray's text begins with where, not with what
        return one_line(error.cause) if isinstance(error.cause, Exception) else str(error).strip().splitlines()[-1]
    if LOW_ON_MEMORY in str(error):
        return f"the node ran out of memory, and Ray ended the process ({LESS_MEMORY})"
    if isinstance(error, RayActorError | WorkerCrashedError) and not isinstance(error, ActorUnavailableError):
        return f"its process crashed or was killed, as the kernel does where memory runs out ({LESS_MEMORY})"
    return one_line(error)


def total(nodes: list[Capacity]) -> Capacity:
    """The nodes together."""
    return Capacity(sum(n.cpus for n in nodes), sum(n.gpus for n in nodes), len(nodes))


@contextlib.contextmanager
def chatter_to(log: Path) -> Iterator[IO[str]]:
    """Sends everything that is written to stdout and stderr, by any library and child process, to a file.

    Gives the real stdout, for what the user is to see.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file, os.fdopen(os.dup(1), "w", buffering=1) as screen:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
