"""Waits for workers, then becomes the command: where a cluster starts with none, or its nodes come one by one.

python -m deploy.workers --workers N --cpus N --gpus N -- python -m tuner.search …

A search counts at its start how many trials fit on the cluster. An autoscaler only makes room for what is asked for, so
that one that begins at no worker would never get to the first trial.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import ray
from ray.autoscaler.sdk import request_resources

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import FAILED, guarded
from tuner.cluster.connection import alive_nodes

PERIOD_S = 2.0


class Cluster(Protocol):
    """What waiting needs of a cluster."""

    def nodes(self) -> list[dict[str, float]]:
        """The resources of every node that is alive."""
        ...

    def ask_for(self, bundles: list[dict[str, float]]) -> None:
        """Tells an autoscaler what is to have room at once; an empty list takes it back."""
        ...


@dataclass(frozen=True)
class Wanted:
    """So many workers, each with at least these."""

    workers: int
    cpus: float
    gpus: float

    def __str__(self) -> str:
        workers = "a worker" if self.workers == 1 else f"{self.workers} workers, each"
        return f"{workers} with at least {self.cpus:g} CPUs and {self.gpus:g} GPUs"

    @property
    def bundle(self) -> dict[str, float]:
        """One worker in Ray's terms."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def count(self, nodes: list[dict[str, float]]) -> int:
        """How many of the nodes are such workers."""
        return sum(all(node.get(key, 0.0) >= amount for key, amount in self.bundle.items()) for node in nodes)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. It does not return where it becomes another; exit code 1 without any worker, 2 without a cluster."""
    return guarded(lambda: run(parser().parse_args(argv)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.workers", description="Wait for workers, then run.")
    add = parser.add_argument
    add("--workers", type=int, required=True, metavar="N", help="as many as are asked for")
    add("--cpus", type=float, default=1, metavar="N", help="CPUs of each (default: %(default)g)")
    add("--gpus", type=float, default=0, metavar="N", help="GPUs of each (default: %(default)g)")
    add("--timeout-s", type=float, default=900, metavar="S", help="then go on with those that are there (%(default)g)")
    add("command", nargs="+", help="what to run, after --")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """From the arguments to the command."""
    wanted = Wanted(arguments.workers, arguments.cpus, arguments.gpus)
    deadline = time.monotonic() + arguments.timeout_s
    minutes = f"{arguments.timeout_s / 60:g} minutes at most"
    print(f"waiting for {wanted}, for {minutes}", file=sys.stderr, flush=True)
    with joined(deadline) as cluster:
        found = wait_for(cluster, wanted, deadline, time.sleep)
    print(f"{found} of {wanted.workers} workers are there", file=sys.stderr, flush=True)
    if not found:
        return FAILED
    os.execvp(arguments.command[0], arguments.command)


def wait_for(cluster: Cluster, wanted: Wanted, deadline: float, sleep: Callable[[float], None]) -> int:
    """Asks for workers until all are there or the deadline (monotonic clock) has passed; how many are."""
    cluster.ask_for([wanted.bundle] * wanted.workers)
    while (found := wanted.count(cluster.nodes())) < wanted.workers and time.monotonic() < deadline:
        sleep(PERIOD_S)
    cluster.ask_for([])  # or the autoscaler would keep them when there is nothing left to do
    return found


class RayCluster:
    """The cluster that this process has joined."""

    def nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in alive_nodes()]

    def ask_for(self, bundles: list[dict[str, float]]) -> None:
        request_resources(bundles=bundles)


@contextlib.contextmanager
def joined(deadline: float) -> Iterator[RayCluster]:
    """The cluster of RAY_ADDRESS, or of this node, as soon as it answers. Raises BadInput if it does not in time."""
    while not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if time.monotonic() >= deadline:
                reason = str(error).strip().splitlines()[0]
                raise BadInput(Problem("RAY_ADDRESS", "a Ray cluster answers there", reason)) from None
            time.sleep(PERIOD_S)
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
