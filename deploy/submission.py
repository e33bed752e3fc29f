"""Submission of a search: prepares it here, has the cluster check it, and starts its job."""

from __future__ import annotations

import getpass
import platform
import secrets
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from deploy.findings import Findings
from deploy.job import JobMetadata, check_job_name, new_job_name
from deploy.job_server import ClusterError, JobClient
from deploy.output import Output
from deploy.package import MIB, SPACE_FILE, Package, project_files, sent_plugins
from deploy.prepare import PreparedExperiment, prepare
from trainables.errors import BadInput, Problem
from tuner.experiment.strict_yaml import read_yaml


@dataclass(frozen=True)
class Submission:
    """A checked experiment and its job, ready to be sent. `workers` are to be waited for; 0 leaves their number to the
    cluster's state."""

    name: str
    space_file: Path
    experiment: PreparedExperiment
    resume: bool = False
    smoke: bool = False
    workers: int = 0

    def metadata(self, found: Findings) -> JobMetadata:
        """The description that the cluster stores of the job."""
        return JobMetadata(
            name=self.name,
            user=_user(),
            space=self.space_file.name,
            experiment=self.experiment.space.name,
            directory=found.directory,
            mirror=found.mirror,
            tracking=self.experiment.tracking,
        )

    @property
    def check_command(self) -> str:
        """The command that checks the experiment on the head."""
        words = ["python", "-m", "deploy.head", "--space", SPACE_FILE, "--job", self.name]
        words += ["--resume"] * self.resume + ["--workers", str(self.workers)] * bool(self.workers)
        return f"exec {shlex.join(words)}"

    def search_command(self, found: Findings) -> str:
        """The command that runs the search on the head, once the awaited workers are there."""
        wait = found.awaited.wait_command if found.awaited is not None else []
        places = {"tracking.directory": found.directory} | ({"tracking.mirror": found.mirror} if found.mirror else {})
        flags = [word for key, place in places.items() for word in ("--set", f"{key}={place}")]
        flags += ["--resume"] * self.resume + ["--smoke"] * self.smoke
        words = [*wait, "python", "-m", "tuner.search", "--space", SPACE_FILE, "--address", "auto", *flags]
        return f"exec {shlex.join(words)}"


def new_submission(
    space_file: Path,
    overrides: Mapping[str, Any],
    name: str | None = None,
    resume: str | None = None,
    smoke: bool = False,
    workers: int = 0,
) -> Submission:
    """Checks the experiment and names its job: `name`, that of the job to `resume`, or a new one. Raises BadInput."""
    job_name = check_job_name(resume or name or _new_name(space_file, overrides))
    experiment = prepare(space_file, overrides)
    return Submission(job_name, space_file, experiment, resume is not None, smoke, workers)


def send(submission: Submission, client: JobClient, dry_run: bool, output: Output) -> Findings:
    """Has the cluster check the submission, and starts its job unless this is a `dry_run`.

    Raises:
        BadInput: where the experiment cannot run on the cluster, or its name is taken.
        ClusterError: where it cannot be reached, or lacks something.
    """
    package = Package(project_files() | sent_plugins(), submission.experiment.text)
    package.check()
    _check_name(client, submission)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "package.zip"
        package.write(archive)
        output.say(f"sending {package} ({archive.stat().st_size / MIB:.1f} MiB packed) to {client.access}")
        found = _check_on_cluster(client, submission, archive)
        _show(found, submission, output)
        if not dry_run:
            command, environment = submission.search_command(found), submission.experiment.environment
            metadata = submission.metadata(found)
            client.submit(command, client.unused_id(submission.name), archive, environment, metadata)
    return found


def _check_name(client: JobClient, submission: Submission) -> None:
    """Raises BadInput where the name is taken by a job that is not to be resumed, or that has not ended."""
    name = submission.name
    known = [job for job in client.jobs() if job.name == name]
    if known and not submission.resume:
        raise BadInput(Problem("--name", f"a new name, or --resume {name}", f"{name!r}, which the cluster knows"))
    for job in known:
        if not job.has_ended:
            got = f"{name!r}, which is {job.status.lower()}"
            raise BadInput(Problem("--resume", "a job that has ended or was stopped", got))


def _check_on_cluster(client: JobClient, submission: Submission, archive: Path) -> Findings:
    """Runs `deploy.head` there. Raises ClusterError or BadInput where the search cannot run."""
    submission_id = f"{submission.name}-look-{secrets.token_hex(3)}"
    log = client.run_small_job(submission.check_command, submission_id, archive, submission.experiment.environment)
    found = Findings.from_log(log)
    if found is None:
        raise ClusterError(f"{client.access} reported nothing about itself")
    if refusals := (*found.refusals, *_version_conflicts(found)):
        raise ClusterError(f"{client.access}: {'; '.join(refusals)}")
    if found.problems:
        # Their places are in the packed file; the user's has other lines.
        problems = [replace(problem, file="", line=0) for problem in found.problems]
        raise BadInput(problems).in_file(f"{submission.experiment.space.file} on {client.access}")
    return found


def _version_conflicts(found: Findings) -> list[str]:
    """Versions whose first two numbers differ from those of this machine."""
    versions = (("Ray", ray.__version__, found.ray), ("Python", platform.python_version(), found.python))
    return [
        f"{name} is {there} there and {here} here: their first two numbers must agree"
        for name, here, there in versions
        if here.split(".")[:2] != there.split(".")[:2]
    ]


def _show(found: Findings, submission: Submission, output: Output) -> None:
    name, experiment = submission.name, submission.experiment
    for note in found.notes:
        output.say(f"note: {note}")
    size = f"{found.cpus:g} CPUs and {found.gpus:g} GPUs on {found.nodes} node{'s' if found.nodes > 1 else ''}"
    output.say(f"{experiment.space.name}: the cluster has {size}; results go to {found.mirror or found.directory}")
    if found.awaited is not None:
        none_yet = "" if found.cpus or found.gpus else "no worker is there yet: "
        output.say(f"{none_yet}{name} asks for {found.awaited}, and waits before it searches")


def _new_name(space_file: Path, overrides: Mapping[str, Any]) -> str:
    name = overrides.get("name") or read_yaml(space_file).get("name")
    return new_job_name(str(name or space_file.stem))


def _user() -> str:
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"
