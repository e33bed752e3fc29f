"""Connection to a Ray cluster: joins one or starts one, and restores the process's environment and handlers."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ray

from trainables.errors import BadInput, Problem
from trainables.plugins import install_sources, plugin_sources
from tuner.cluster.local_ray import local_ray
from tuner.cluster.process_state import environment_set, handlers_kept, hangup_blocked
from tuner.messages.redaction import reason
from tuner.messages.wording import one_line
from tuner.resources.share import Capacity, num_mig_slices, this_machine
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

# Ray Tune by default logs every result three times to files, prints tables, and takes Ctrl-C for itself.
TUNE_ENVIRONMENT = {
    "RAY_task_oom_retries": "2",  # else a task for which no node has the memory is repeated for ever
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # else Tune itself starts such a trial again, at its first fold
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its snapshots are never read, and one that a full disk refuses ends the search
}

NUM_STARTS = 3
"""Attempts to start Ray on this machine. On a busy machine a part of Ray may start later than another part waits
for it, 15 s (https://github.com/ray-project/ray/issues/65983)."""

ANSWER_S = 10.0
"""How long a cluster to be joined may take to accept a connection."""

OBJECT_STORE_ADVICE = (
    "take fewer images or smaller ones (data.train_images, data.size_px), or more memory: for a cluster, "
    "`ray start --object-store-memory`; for this machine's own, RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION"
)
"""Remedies for an object store that is too small."""

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
    with contextlib.ExitStack() as stack:
        if address is None:
            # The raylet hands its environment to its workers; what the user has set stays.
            environment |= {name: value for name, value in WORKER_ENVIRONMENT.items() if name not in os.environ}
            here = this_machine()
            options |= {"include_dashboard": False, "num_cpus": here.cpus} | stack.enter_context(local_ray())
            num_slices = num_mig_slices()
            if num_slices or not here.gpus:  # Ray counts whole GPUs, and those of Apple and Intel, too
                options["num_gpus"] = num_slices
        else:
            options |= {"address": address, "runtime_env": {"env_vars": WORKER_ENVIRONMENT} | _sent_plugins()}
        stack.enter_context(environment_set(environment))
        try:
            if address is not None:
                _require_answer(address)
            with handlers_kept(), hangup_blocked():
                _connect(options, attempts=1 if address else NUM_STARTS)
        except Exception as error:
            raise BadInput(_not_connected(address, options, error)) from None
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


def _not_connected(address: str | None, options: Mapping[str, Any], error: Exception) -> Problem:
    """Describes a cluster that cannot be joined or started."""
    if address:
        return Problem("--address", "the address of a Ray cluster that answers", f"{address}: {reason(error)}")
    logs = f"{options['_temp_dir']}/session_latest/logs"
    expected = f"a machine on which Ray starts, or --address of a cluster that runs (Ray's logs are in {logs})"
    return Problem("", expected, reason(error))


def alive_nodes() -> list[dict[str, Any]]:
    """Lists the nodes of the cluster that this process has joined, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _require_answer(address: str) -> None:
    """Raises OSError or OverflowError if nobody listens at an address HOST:PORT, of which Ray would say nothing for
    minutes. Any other, such as `auto`, is left to Ray."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()


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
