"""Commands of `deploy.submit` about jobs that were submitted before: status, logs, stop, list, result."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.client import connect, follow, resume_command
from deploy.job import Job
from deploy.job_server import JobClient
from deploy.output import DONE, EXIT_CODES, FAILED, Output, local_time
from deploy.results import (
    ABSOLUTE_PATH,
    Progress,
    copy_run,
    fetch_newest_run,
    is_absolute,
    newest_run,
    progress_of,
)
from trainables.errors import BadInput, Problem
from tuner.messages.wording import clock


def client_of(arguments: argparse.Namespace) -> JobClient:
    """Connects as the flags say. Raises BadInput or ClusterError."""
    return connect(arguments.address, arguments.ca_file, arguments.wait_s)


def status(arguments: argparse.Namespace, output: Output) -> int:
    """Shows the state of a job."""
    job = client_of(arguments).newest(arguments.name)
    facts = job_as_json(job)
    if not arguments.json:
        for key, value in facts.items():
            if value not in (None, ""):
                print(f"{key.removesuffix('_s'):18} {local_time(value) if key.endswith('ed_s') else value}")
    output.finish(facts)
    return EXIT_CODES.get(job.status, DONE)


def logs(arguments: argparse.Namespace, output: Output) -> int:
    """Shows what a job has printed; with -f, until it has ended."""
    client = client_of(arguments)
    if arguments.follow:
        return follow_to_exit_code(client, arguments.name, output)
    text = client.log(client.newest(arguments.name).id)
    if not arguments.json:
        output.write(text)
    output.finish({"name": arguments.name, "log": text})
    return DONE


def stop(arguments: argparse.Namespace, output: Output) -> int:
    """Ends a job as Ctrl-C would: what is finished is kept, and --resume goes on from there."""
    client = client_of(arguments)
    client.stop(client.newest(arguments.name).id)
    job = client.newest(arguments.name)
    output.say(f"{job.name} is {job.status.lower()}; go on with: {resume_command(job, client.access)}")
    output.finish(job.model_dump())
    return DONE


def list_jobs(arguments: argparse.Namespace, output: Output) -> int:
    """Lists the searches of all users that the cluster knows."""
    jobs = [(job, _progress(job)) for job in client_of(arguments).jobs()]
    if not arguments.json:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("name", "user", "space", "started", "took", "state", "best"):
            table.add_column(heading, overflow="fold")
        for job, progress in jobs:
            took = clock((job.ended_s or time.time()) - job.started_s) if job.started_s else ""
            best = "" if progress is None or progress.best_top1 is None else f"{progress.best_top1:.4f}"
            started = local_time(job.started_s)
            cells = (job.name, job.user, job.space, started, took, job.status.lower(), best)
            table.add_row(*map(Text, cells))  # strings would be read as markup
        Console(highlight=False).print(table)
    output.finish([_as_json(job, progress) for job, progress in jobs])
    return DONE


def result(arguments: argparse.Namespace, output: Output) -> int:
    """Copies a job's model, report and record here, from the shared folder where this machine sees it, else from the
    mirror; without either, says where they are."""
    name = arguments.name
    target = arguments.to or Path("results") / name
    job = None if arguments.directory is not None else client_of(arguments).newest(name)
    directory, mirror = _places_below(arguments.directory, name) if job is None else (job.directory, job.mirror)
    with tempfile.TemporaryDirectory() as folder:
        run = newest_run(Path(directory)) if directory else None
        if run is None and mirror:
            run = fetch_newest_run(mirror, Path(folder))
        if run is not None:
            copy = copy_run(run, target)
        elif job is None:
            raise BadInput(Problem("--directory", "a folder or mirror with a run of the job", directory or mirror))
        else:
            output.say(_where_results_are(job))
            output.finish(job.model_dump())
            return FAILED
    progress = progress_of(copy)
    copied = "model, report and record" if copy.model.exists() else "record alone, as there is no model yet"
    output.say(f"{target}: {copied}" + ("" if progress.has_finished else "; the search has not finished"))
    output.finish({"name": name, "folder": str(target.resolve()), **_progress_as_json(progress)})
    return DONE


def follow_to_exit_code(client: JobClient, name: str, output: Output) -> int:
    """Follows a job to its end, and returns the exit code for its status; `DONE` after Ctrl-C."""
    job = follow(client, name, output)
    if job is None:
        return DONE
    output.finish(job_as_json(job))
    return EXIT_CODES.get(job.status, DONE)


def job_as_json(job: Job) -> dict[str, Any]:
    """The job's fields and, where this machine sees its folder, the progress of its search."""
    return _as_json(job, _progress(job))


def _progress(job: Job) -> Progress | None:
    """The progress of a job's search; None where this machine does not see or understand its journal."""
    run = newest_run(Path(job.directory))
    with contextlib.suppress(BadInput, OSError):
        return None if run is None else progress_of(run)
    return None


def _as_json(job: Job, progress: Progress | None) -> dict[str, Any]:
    return job.model_dump() | ({} if progress is None else _progress_as_json(progress))


def _progress_as_json(progress: Progress) -> dict[str, Any]:
    return asdict(progress)


def _places_below(place: str, name: str) -> tuple[str, str]:
    """The job's folder (empty: none) and mirror (empty: none) below a folder or an object store. Raises BadInput."""
    if not is_absolute(place):
        raise BadInput(Problem("--directory", ABSOLUTE_PATH, repr(place)))
    place = f"{place.rstrip('/')}/{name}"
    return ("", place) if "://" in place else (place, "")


def _where_results_are(job: Job) -> str:
    """Advice for results that this machine cannot reach."""
    mirror = f", copied to {job.mirror}" if job.mirror else ""
    server = f" at {job.tracking}" if job.tracking else ""
    return (
        f"this machine sees no run of {job.name}\n"
        f"  its results are in {job.directory} on the cluster{mirror}: scp, kubectl cp or docker compose cp copy them\n"
        f"  MLflow{server} has its model and report, in experiment {job.experiment}"
    )
