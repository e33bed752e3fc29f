"""Connection to a Ray cluster: joins one or starts one, and restores the process's environment and handlers."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ray

from trainables.errors import BadInput, Problem
from trainables.plugins import install_sources, plugin_sources
from tuner.cluster.tasks import OBJECT_STORE_ADVICE
from tuner.messages.redaction import reason
from tuner.messages.wording import one_line
from tuner.resources.share import Capacity, this_machine

# Read by glibc and OpenMP when a process starts. Training allocates and frees the same large blocks at every step;
# by default, glibc gives each back to the kernel and faults it in again (measured: docs/decisions/0007). Threads that
# spin while they wait slow down the trial beside them.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a process without a GPU sees none, rather than all of them
}

# Ray Tune by default logs every result three times to files, prints tables, and takes Ctrl-C for itself.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its snapshots are never read, and one that a full disk refuses ends the search
}

NUM_STARTS = 3
"""Attempts to start Ray on this machine. On a busy machine a part of Ray may start later than another part waits
for it, 15 s (https://github.com/ray-project/ray/issues/65983)."""


logger = logging.getLogger(__name__)


@contextlib.contextmanager
def cluster(address: str | None, data_bytes: int = 0) -> Iterator[list[Capacity]]:
    """Joins the cluster at `address`, or starts one on this machine, for the block. Yields the capacity of each node.

    Signal handlers and environment variables of this process are restored.

        with cluster(None) as nodes:
            share = share_of(nodes, ResourceSettings(), "auto")

    Raises:
        BadInput: if no cluster answers at `address`, Ray does not start here, or its object store has no room for
            `data_bytes` of decoded data.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    environment = dict(TUNE_ENVIRONMENT)
    if address is None:
        # The raylet hands its environment to its workers; what the user has set stays.
        environment |= {name: value for name, value in WORKER_ENVIRONMENT.items() if name not in os.environ}
        options |= {"address": "local", "include_dashboard": False, "num_cpus": this_machine().cpus}
    else:
        options |= {"address": address, "runtime_env": {"env_vars": WORKER_ENVIRONMENT} | _sent_plugins()}
    with _environment(environment):
        try:
            with _handlers_kept():
                _connect(options, attempts=1 if address else NUM_STARTS)
        except Exception as error:
            expected = "the address of a Ray cluster that answers" if address else "a machine on which Ray starts"
            raise BadInput(Problem("--address", expected, f"{address or 'no address'}: {reason(error)}")) from None
        try:
            nodes = alive_nodes()
            check_store(nodes, data_bytes)
            yield [Capacity.of(node) for node in nodes]
        finally:
            ray.shutdown()


def _sent_plugins() -> dict[str, Any]:
    """Returns the part of a runtime environment that gives every worker the files of plugins, which may be on no other
    machine; empty without plugins."""
    sources = plugin_sources()

    def install() -> None:
        install_sources(sources)

    return {"worker_process_setup_hook": install} if sources else {}


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Restores the signal handlers and faulthandler that Ray replaces while it connects."""
    had_faulthandler = faulthandler.is_enabled()
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        if in_main_thread:  # in another thread neither Ray nor this may set handlers
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if not had_faulthandler:
            faulthandler.disable()


def alive_nodes() -> list[dict[str, Any]]:
    """Lists the nodes of the cluster that this process has joined, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _connect(options: dict[str, Any], attempts: int) -> None:
    """Connects, and retries on any error, as Ray raises many kinds when one of its processes starts late."""
    try:
        ray.init(**options)
    except Exception as error:
        ray.shutdown()
        if attempts == 1:
            raise
        logger.warning("Ray did not start, and is started again: %s", one_line(error))
        _connect(options, attempts - 1)


def check_store(nodes: Iterable[dict[str, Any]], num_bytes: int) -> None:
    """Raises BadInput if `num_bytes` of decoded data do not fit into the object store of each node that runs trials.

    Ray would spill the rest to disk, from where each batch would then be read.
    """
    stores = [n["Resources"].get("object_store_memory", 0.0) for n in nodes if n["Resources"].get("CPU")]
    if stores and min(stores) < num_bytes:
        size = f"{min(stores) / 1e9:.2f} GB"
        expected = f"data that fits, once decoded, into Ray's object store of {size} ({OBJECT_STORE_ADVICE})"
        raise BadInput(Problem("data", expected, f"{num_bytes / 1e9:.2f} GB"))
