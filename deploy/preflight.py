"""What `deploy.head` does on a head that has the project's requirements."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy.findings import Findings, NodeFacts, look_around
from deploy.package import MIB
from deploy.results import files_of, newest_run, pack
from deploy.settings import load_settings
from trainables.errors import BadInput, Problem
from tuner.cluster.connection import alive_nodes
from tuner.experiment.checks import check_experiment
from tuner.experiment.search_experiment import SearchExperiment, load_experiment
from tuner.record.mirror import Mirror
from tuner.resources.share import Capacity, share_of

ANSWER_TIMEOUT_S = 180
"""How long the nodes have to answer, the start of a worker on each included."""

SENT_MIB = 500
"""Three of the head's processes and the client hold a whole log at once: 1.8 GiB each where it carries 400 MiB."""

Node = dict[str, Any]
"""A node as `ray.nodes()` describes it."""


def send(directory: Path) -> int:
    """Prints the results of the job whose folder `directory` is. Returns the exit code."""
    run = newest_run(directory)
    if run is None:
        print(f"no run has begun in {directory}")
        return 1
    size_mib = sum(path.stat().st_size for path in files_of(run)) / MIB
    if size_mib > SENT_MIB:
        print(f"{size_mib:.0f} MiB are too much for a job's log; they lie in {run}, and the model is in MLflow, too")
        return 1
    for line in pack(run).lines():
        print(line)
    return 0


def look(space_file: Path, job: str, resume: bool, workers: int = 0) -> Findings:
    """Whether the experiment in `space_file` can run on this cluster, as a whole and on each of its nodes; `workers`
    that it is to wait for count as if they were there."""
    found = Findings()
    try:
        space = load_experiment(space_file)
    except BadInput as bad:
        found.problems += map(asdict, bad.problems)
        return found
    ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    nodes = alive_nodes()
    room = [Capacity.of(node) for node in nodes]
    found.nodes, found.cpus, found.gpus = len(nodes), sum(r.cpus for r in room), sum(r.gpus for r in room)
    directory = space.tracking.directory
    found.awaited = _awaited(space, room, workers)
    problems = [
        *_problems_on_head(space),
        *_problems_of_room(space, room + _to_come(found.awaited)),
        *_problems_of_name(space, job, resume),
    ]
    with _token_in(directory) as (file, token):
        if file is None:
            problems.append(Problem("tracking.directory", "a folder that the head can write", f"{directory}: {token}"))
        else:
            is_shared = space.tracking.mirror is None
            problems += _ask_nodes(nodes, file if is_shared else None, token, found)
    found.problems += map(asdict, problems)
    ray.shutdown()
    return found


def _problems_on_head(space: SearchExperiment) -> Iterator[Problem]:
    """Data, weights and tracking server as the head, on which the search's driver runs, sees them."""
    if space.tracking.uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        expected = "--tracking-uri, this key or MLFLOW_TRACKING_URI, here or in the environment of the nodes"
        yield Problem("tracking.uri", expected, "none of them")
        return
    try:
        check_experiment(space)
    except BadInput as bad:
        yield from bad.problems


def _awaited(space: SearchExperiment, room: list[Capacity], workers: int) -> dict[str, int]:
    """What `Findings.awaited` says. A cluster that starts at no worker only gets one for what is waited for; unless the
    user knows how many, one on which a trial fits is enough to begin with."""
    if workers:
        worker = load_settings().worker
        return {"workers": workers, "cpus": worker.cpus, "gpus": worker.gpus}
    if any(node.cpus or node.gpus for node in room):
        return {}
    gpus = 1 if space.resources.gpus == "auto" else space.resources.gpus
    return {"workers": 1, "cpus": math.ceil(space.resources.cpus), "gpus": math.ceil(gpus)}


def _to_come(awaited: dict[str, int]) -> list[Capacity]:
    return [Capacity(awaited["cpus"], awaited["gpus"])] * awaited["workers"] if awaited else []


def _problems_of_room(space: SearchExperiment, room: list[Capacity]) -> Iterator[Problem]:
    """A laptop without a card falls back on its CPUs; a cluster without one is not what was meant."""
    if space.resources.gpus and not any(node.gpus for node in room):
        expected = "0 on a cluster without GPUs, to train on its CPUs (--set resources.gpus=0)"
        nodes = f"{len(room)} node" + ("s" if len(room) > 1 else "")
        yield Problem("resources.gpus", expected, f"{space.resources.gpus}, and no GPU on {nodes}")
        return
    try:
        share_of(room, space.resources, space.search.concurrency)
    except BadInput as bad:
        yield from bad.problems


def _problems_of_name(space: SearchExperiment, job: str, resume: bool) -> Iterator[Problem]:
    """A mirror is looked at, too, and whether it can be written."""
    directory, mirror = space.tracking.directory, space.tracking.mirror
    has_begun = newest_run(directory) is not None
    if mirror is not None:
        try:
            has_begun = Mirror.open(mirror).newest_run(space.name) is not None or has_begun
        except BadInput as bad:
            yield from bad.problems
            return
    places = directory if mirror is None else f"{directory} or {mirror}"
    if resume and not has_begun:
        yield Problem("--resume", "a job that has begun", f"{job!r}, of which there is nothing in {places}")
    if has_begun and not resume:
        yield Problem("--name", f"a new name, or --resume {job}", f"{job!r}, whose results lie in {places}")


@contextlib.contextmanager
def _token_in(directory: Path) -> Iterator[tuple[Path | None, str]]:
    """A file with a token in `directory`, for the block; or None, and why there can be none."""
    token, file = secrets.token_hex(), directory / f".{secrets.token_hex(4)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(token)
    except OSError as error:
        yield None, (error.strerror or str(error)).lower()
        return
    try:
        yield file, token
    finally:
        file.unlink()
        with contextlib.suppress(OSError):  # it holds a run
            directory.rmdir()


def _ask_nodes(nodes: list[Node], file: Path | None, token: str, found: Findings) -> Iterator[Problem]:
    """Lets every node say what it lacks, and read the file, if they are to share its folder."""
    remote: Any = ray.remote(num_cpus=0)(look_around)
    answers = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            None if file is None else str(file), Capacity.of(node).gpus > 0
        )
        for node in nodes
    ]
    try:
        facts: list[NodeFacts] = ray.get(answers, timeout=ANSWER_TIMEOUT_S)
    except ray.exceptions.RayError as error:
        found.refusals.append(f"not every node answers: {str(error).strip().splitlines()[0]}")
        return
    for name, said in zip((node["NodeManagerAddress"] for node in nodes), facts, strict=True):
        if file is not None and said.token != token:
            got = f"{file.parent}: node {name} does not see what the head wrote there"
            yield Problem("tracking.directory", "a folder on storage that all nodes share", got)
        if said.missing:
            found.refusals.append(f"node {name} lacks {', '.join(said.missing)}")
        if said.note:
            found.notes.append(f"node {name} {said.note}")
