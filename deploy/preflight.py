"""Checks of an experiment on the cluster that is to run it: its data and store, room for a trial, and every node.

Runs on the head (`deploy.head`), where the project's requirements are met. As a command, checks there what needs no
other node, before a RayJob asks for workers:

    python -m deploy.preflight --space FILE [an argument of tuner.search]…
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy.findings import Findings, NodeFacts, inspect_node
from deploy.results import has_begun
from deploy.settings import EXPERIMENTS, LOCAL, WORKER_CPUS, WORKER_GPUS, load_settings
from deploy.worker_request import WorkerRequest
from trainables.backbones import fetch_weights
from trainables.data.cache import Cache
from trainables.data.loading import check_data
from trainables.data.mapped_pixels import is_too_large_to_send
from trainables.errors import BadInput, Problem, os_reason
from tuner import search
from tuner.cli.arguments import (
    SUCCEEDED,
    flags_of,
    guarded,
    overrides_of,
    parse_arguments,
    resolve_space_file,
)
from tuner.cluster.connection import alive_nodes
from tuner.experiment.checks import check_experiment, load_images
from tuner.experiment.extends import locate_problems
from tuner.experiment.search_experiment import SearchExperiment, load_experiment, read_tree
from tuner.messages.redaction import reason
from tuner.resources.share import Capacity, share_of

ANSWER_TIMEOUT_S = 180
"""How long the nodes have to answer, the start of a worker process on each included."""

Node = dict[str, Any]
"""A node as `ray.nodes()` describes it."""


@dataclass(frozen=True)
class Probe:
    """A file with a random `token`, by which nodes show that they see the folder of the experiment."""

    file: Path
    token: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0, or 2 for bad input."""
    arguments = parse_arguments(search.parser(), argv)
    return guarded(lambda: check_here(resolve_space_file(arguments)))


def check_here(arguments: argparse.Namespace) -> int:
    """Checks what `tuner.search --dry-run` checks, but times no step: this machine is not the one that trains. Returns
    the exit code.

    Raises:
        BadInput: with every problem found.
    """
    plan, _ = search.checked_plan(arguments, is_dry=True)
    space = plan.space
    with locate_problems(arguments.space, overrides_of(arguments), flags_of(arguments)):
        if problems := list(_weight_problems(space)):
            raise BadInput(problems)
        load_images(space)
    print(f"{arguments.space}: nothing is wrong with it", flush=True)
    return SUCCEEDED


def check_cluster(space_file: Path, job: str, resume: bool, workers: int = 0) -> Findings:
    """Checks whether the experiment in `space_file` can run on this cluster, as a whole and on each of its nodes.

    `workers` that the job is to wait for count as if they were there. Mistakes are returned, not raised.
    """
    try:
        places = places_of(read_tree(space_file).get("tracking") or {}, job, os.environ)
        space = load_experiment(space_file, {f"tracking.{key}": place for key, place in places.items()})
    except BadInput as bad:
        return Findings(problems=bad.problems)
    ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    try:
        nodes = alive_nodes()
        capacities = [Capacity.of(node) for node in nodes]
        awaited = _workers_to_await(space, capacities, workers, os.environ)
        on_head = list(_problems_on_head(space))
        problems = [
            *on_head,
            *_capacity_problems(space, capacities + _capacities_of(awaited)),
            *_name_problems(space, job, resume),
        ]
        on_nodes = _check_nodes(space, nodes, None if on_head else cache_to_share(space))
    finally:
        ray.shutdown()
    return Findings(
        nodes=len(nodes),
        cpus=sum(node.cpus for node in capacities),
        gpus=sum(node.gpus for node in capacities),
        awaited=awaited,
        directory=places["directory"],
        mirror=places.get("mirror", ""),
        problems=(*problems, *on_nodes.problems),
        refusals=on_nodes.refusals,
        notes=on_nodes.notes,
    )


def places_of(tracking: Mapping[str, Any], job: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The `directory` of a job, a folder of its own below what its experiment says in `tracking`, or else where the
    nodes of this cluster say that experiments are; where that is an object store, a folder on the head's disk, and the
    store as `mirror`.

    Raises:
        BadInput: where neither says it: a folder that is on the head's disk alone would be lost with the head.
    """
    place, mirror = tracking.get("directory") or environment.get(EXPERIMENTS), tracking.get("mirror")
    if not place:
        expected = f"a folder or s3://bucket/prefix that outlives the head, in the experiment or as {EXPERIMENTS} there"
        raise BadInput(Problem("tracking.directory", expected, "neither"))
    if "://" in place:
        place, mirror = environment.get(LOCAL) or load_settings().storage.local, mirror or place
    places = {"directory": place} | ({"mirror": mirror} if mirror else {})
    return {key: f"{each.rstrip('/')}/{job}" for key, each in places.items()}


def _problems_on_head(space: SearchExperiment) -> Iterator[Problem]:
    """Data, weights and tracking server as seen from the head, on which the search's driver runs."""
    if space.tracking.uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        expected = "an MLflow server: by --tracking-uri, this key or MLFLOW_TRACKING_URI, here or on the nodes"
        yield Problem("tracking.uri", expected, "none of them")
        return
    try:
        check_experiment(space)
    except BadInput as bad:
        yield from bad.problems
        return
    yield from _weight_problems(space)


def _weight_problems(space: SearchExperiment) -> Iterator[Problem]:
    """Downloads published weights to the folder that all nodes share by TORCH_HOME and HF_HOME: workers may have no way
    out, and are many. Yields those that cannot be had."""
    for backbone in dict.fromkeys(config.backbone for config in space.boundary_configs()):
        try:
            fetch_weights(backbone)
        except BadInput as bad:
            yield from bad.under("backbone").problems


def _workers_to_await(
    space: SearchExperiment, nodes: Sequence[Capacity], workers: int, environment: Mapping[str, str]
) -> WorkerRequest | None:
    """The request for `workers` of the size that the nodes of this cluster say; without a number, for one where the
    cluster has no worker: an autoscaler only starts what is asked for. Without a size, a trial fits on each."""
    if workers and WORKER_CPUS in environment:
        return WorkerRequest(workers, float(environment[WORKER_CPUS]), float(environment[WORKER_GPUS]))
    if not workers and any(node.cpus or node.gpus for node in nodes):
        return None
    gpus = 1 if space.resources.gpus == "auto" else space.resources.gpus
    if gpus is None:  # trials take GPUs where there are some: one that began on a worker without would not
        gpus = min(1.0, float(environment.get(WORKER_GPUS, "0")))
    return WorkerRequest(workers or 1, math.ceil(space.resources.cpus), math.ceil(gpus))


def _capacities_of(awaited: WorkerRequest | None) -> list[Capacity]:
    return [] if awaited is None else [Capacity(awaited.cpus, awaited.gpus)] * awaited.workers


def _capacity_problems(space: SearchExperiment, nodes: list[Capacity]) -> Iterator[Problem]:
    """A trial that asks for a GPU and finds none: an error on a cluster, where a laptop falls back on its CPUs."""
    if space.resources.gpus and not any(node.gpus for node in nodes):
        expected = "0 on a cluster without GPUs, to train on its CPUs (--set resources.gpus=0)"
        count = f"{len(nodes)} node" + ("s" if len(nodes) > 1 else "")
        yield Problem("resources.gpus", expected, f"{space.resources.gpus}, and no GPU on {count}")
        return
    try:
        share_of(nodes, space.resources, space.search.concurrency)
    except BadInput as bad:
        yield from bad.problems


def _name_problems(space: SearchExperiment, job: str, resume: bool) -> Iterator[Problem]:
    """A name that is taken, or that there is nothing of to resume; also a mirror that cannot be written."""
    directory, mirror = space.tracking.directory, space.tracking.mirror
    try:
        exists = has_begun(directory, mirror, space.name)
    except BadInput as bad:
        yield from bad.problems
        return
    places = directory if mirror is None else f"{directory} or {mirror}"
    if resume and not exists:
        yield Problem("--resume", "a job that has begun", f"{job!r}, of which there is nothing in {places}")
    if exists and not resume:
        yield Problem("--name", f"a new name, or --resume {job}", f"{job!r}, whose results are in {places}")


@dataclass(frozen=True)
class NodeFindings:
    """The part of `Findings` that comes from the nodes."""

    problems: tuple[Problem, ...] = ()
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def cache_to_share(space: SearchExperiment) -> Path | None:
    """The folder of decoded images, if a training split is too large to be sent: then each node maps it from there.

    The experiment has been checked. None if there is no cache, without which all images are sent.
    """
    cache = Cache.from_environment()
    variants = {config.data for config in space.boundary_configs() if not config.data.has_texts}
    sizes = (check_data(data, num_folds=None).num_train * data.stored_px**2 * 3 for data in variants)
    return cache.folder if cache is not None and is_too_large_to_send(max(sizes, default=0)) else None


def _check_nodes(space: SearchExperiment, nodes: Sequence[Node], cache: Path | None = None) -> NodeFindings:
    """Has every node look at its environment and read a file of the head: in the experiment's folder, where all share
    it, and in that of decoded images, if they are to."""
    try:
        with _probe_in(space.tracking.directory) as probe, _probe_in(cache) if cache else nullcontext() as decoded:
            shared = probe if space.tracking.mirror is None else None
            facts = _inspect(nodes, shared, decoded)
    except ray.exceptions.RayError as error:  # first: of a timeout's, OSError is a base, too
        return NodeFindings(refusals=(f"not every node answers: {reason(error)}",))
    except OSError as error:
        got = f"{error.filename or space.tracking.directory}: {os_reason(error)}"
        return NodeFindings(problems=(Problem("tracking.directory", "a folder that the head can write", got),))
    return _findings_of(facts, shared, decoded)


SHARED_FOLDER = "a folder on storage that all nodes share"
SHARED_CACHE = (
    f"{SHARED_FOLDER} as TUNER_CACHE in the nodes' environment (the decoded images are too large to be sent; or fewer "
    "or smaller ones: data.train_images, data.size_px)"
)


def _findings_of(facts: Sequence[NodeFacts], probe: Probe | None, decoded: Probe | None = None) -> NodeFindings:
    """What the nodes' answers say of the experiment; without a probe, they need not share its folder."""
    asked = (
        ("tracking.directory", SHARED_FOLDER, probe, [each.token for each in facts]),
        ("data", SHARED_CACHE, decoded, [each.cached for each in facts]),
    )
    return NodeFindings(
        tuple(
            Problem(where, expected, f"{of.file.parent}: node {each.node} does not see what the head wrote there")
            for where, expected, of, tokens in asked
            if of is not None
            for each, token in zip(facts, tokens, strict=True)
            if token != of.token
        ),
        tuple(f"node {each.node} lacks {', '.join(each.missing)}" for each in facts if each.missing),
        tuple(f"node {each.node} {each.note}" for each in facts if each.note),
    )


@contextlib.contextmanager
def _probe_in(directory: Path) -> Iterator[Probe]:
    """Writes a probe into `directory` for the block, and leaves nothing behind. Raises OSError where it cannot be
    written."""
    probe = Probe(directory / f".{secrets.token_hex(4)}", secrets.token_hex())
    directory.mkdir(parents=True, exist_ok=True)
    probe.file.write_text(probe.token)
    try:
        yield probe
    finally:
        probe.file.unlink()
        with contextlib.suppress(OSError):  # it holds a run
            directory.rmdir()


def _inspect(nodes: Sequence[Node], probe: Probe | None, decoded: Probe | None) -> list[NodeFacts]:
    """The answers of the nodes, in their order. Raises Ray's errors where one does not answer in time."""
    remote: Any = ray.remote(num_cpus=0)(inspect_node)
    file, cache_file = (None if each is None else str(each.file) for each in (probe, decoded))
    answers = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            node["NodeManagerAddress"], file, Capacity.of(node).gpus > 0, cache_file
        )
        for node in nodes
    ]
    facts: list[NodeFacts] = ray.get(answers, timeout=ANSWER_TIMEOUT_S)
    return facts


if __name__ == "__main__":
    raise SystemExit(main())
