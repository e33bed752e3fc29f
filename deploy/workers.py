"""Waits for a cluster's workers, then runs a command: for clusters that start without workers, or node by node.

python -m deploy.workers --workers N --cpus N --gpus N -- python -m tuner.search …

A search counts at its start how many trials fit on the cluster, and an autoscaler only starts workers that are asked
for. Without this command, a cluster that begins without workers would never get to the first trial.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import ray
from ray.autoscaler.sdk import request_resources

from deploy.worker_request import WorkerRequest
from trainables.errors import BadInput, Problem
from tuner.cli.arguments import FAILED, guarded
from tuner.cluster.connection import alive_nodes
from tuner.messages.invocation import module_line
from tuner.messages.redaction import reason
from tuner.resources.share import Capacity

PERIOD_S = 2.0


class Cluster(Protocol):
    """The part of a cluster that `wait_for` uses."""

    def nodes(self) -> list[Capacity]:
        """The resources of every node that is alive."""
        ...

    def request(self, workers: WorkerRequest | None) -> None:
        """Asks the autoscaler for workers, in place of what was asked for before; None asks for none."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Does not return where it runs the other one; exit code 1 without any worker, 2 without a cluster."""
    return guarded(lambda: run(parser().parse_args(argv)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=module_line("deploy.workers"), description="Wait for workers, then run.")
    add = parser.add_argument
    add("--workers", type=int, required=True, metavar="N", help="as many as are asked for")
    add("--cpus", type=float, default=1, metavar="N", help="CPUs of each (default: %(default)g)")
    add("--gpus", type=float, default=0, metavar="N", help="GPUs of each (default: %(default)g)")
    add("--timeout-s", type=float, default=900, metavar="S", help="then go on with those that are there (%(default)g)")
    add("command", nargs="+", help="what to run, after --")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Waits, then replaces this process by the command; returns exit code 1 where there is no worker."""
    wanted = WorkerRequest(arguments.workers, arguments.cpus, arguments.gpus)
    deadline = time.monotonic() + arguments.timeout_s
    print(f"waiting for {wanted}, for {arguments.timeout_s / 60:g} minutes at most", file=sys.stderr, flush=True)
    with joined(deadline) as cluster:
        found = wait_for(cluster, wanted, deadline, time.sleep)
    print(f"{found} of {wanted.workers} workers are there", file=sys.stderr, flush=True)
    if not found:
        return FAILED
    os.execvp(arguments.command[0], arguments.command)


def wait_for(cluster: Cluster, wanted: WorkerRequest, deadline: float, sleep: Callable[[float], None]) -> int:
    """Asks for workers until all are there or the deadline (monotonic clock, in s) has passed; returns their number."""
    cluster.request(wanted)
    while (found := count_workers(cluster.nodes(), wanted)) < wanted.workers and time.monotonic() < deadline:
        sleep(PERIOD_S)
    cluster.request(None)  # or the autoscaler would keep them when there is nothing left to do
    return found


def count_workers(nodes: Iterable[Capacity], wanted: WorkerRequest) -> int:
    """The number of nodes that are at least of the wanted size."""
    return sum(node.cpus >= wanted.cpus and node.gpus >= wanted.gpus for node in nodes)


class RayCluster:
    """The cluster that this process has joined."""

    def nodes(self) -> list[Capacity]:
        return [Capacity.of(node) for node in alive_nodes()]

    def request(self, workers: WorkerRequest | None) -> None:
        request_resources(bundles=[] if workers is None else bundles_of(workers))


def bundles_of(wanted: WorkerRequest) -> list[dict[str, float]]:
    """The workers as Ray's resource bundles, one each."""
    return [{"CPU": wanted.cpus} | ({"GPU": wanted.gpus} if wanted.gpus else {})] * wanted.workers


@contextlib.contextmanager
def joined(deadline: float) -> Iterator[RayCluster]:
    """Joins the cluster of RAY_ADDRESS, or of this node, for the block. Raises BadInput where none answers in time."""
    while not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise BadInput(Problem("RAY_ADDRESS", "the address of a running Ray cluster", reason(error))) from None
            time.sleep(PERIOD_S)
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
