"""Connection to a cluster from the command line, following a job there, and the commands that return to it."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from deploy.job import Job
from deploy.job_server import Access, ClusterError, JobClient, check_address, token_header
from deploy.output import Output
from trainables.errors import BadInput, Problem
from tuner.messages.invocation import module_line, plugin_flags

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def connect(address: str, ca_file: Path | None, wait_s: float) -> JobClient:
    """Connects to the job server at `address`; warns where the token is sent in clear.

    Raises:
        BadInput: where an argument is wrong.
        ClusterError: where nothing answers within `wait_s`.
    """
    if ca_file is not None and not ca_file.exists():
        raise BadInput(Problem("--ca-file", "a file of certificates", str(ca_file)))
    url = urlsplit(check_address(address))
    if url.scheme == "http" and url.hostname not in LOOPBACK and token_header():
        note = f"note: the token goes to {url.hostname} unencrypted; https or an SSH tunnel would hide it"
        print(note, file=sys.stderr)
    return JobClient(Access(address, str(ca_file) if ca_file is not None else True, wait_s))


def follow(client: JobClient, name: str, output: Output) -> Job | None:
    """Shows what the newest job of that name prints until it ends, and returns it; None after Ctrl-C, which leaves the
    job running.

    Raises:
        ClusterError: where the cluster no longer answers; the message says how to resume.
    """
    job = client.newest(name)
    try:
        client.follow(job.id, output.write)
    except KeyboardInterrupt:
        output.say(f"\n{name} goes on without this command\n{return_commands(name, client.access)}")
        return None
    except ClusterError as error:
        resume = resume_command(job, client.access)
        raise ClusterError(f"{error}; what is finished is kept, go on with: {resume}") from None
    job = client.newest(name)
    output.say(f"{name} {job.status.lower()}")
    if job.status == "SUCCEEDED":
        output.say(f"copy the results here with: {_command('result', name, client.access)}")
    else:
        output.say(f"go on with: {resume_command(job, client.access)}")
    return job


def return_commands(name: str, access: Access) -> str:
    """The commands for a job that is left running, one a line."""
    return "\n".join(f"  {_command(verb, name, access)}" for verb in ("logs -f", "status", "stop", "result"))


def resume_command(job: Job, access: Access) -> str:
    """The command that continues a job that was cut off."""
    words = ["--space", job.space, "--resume", job.name, "--address", str(access), *plugin_flags()]
    return module_line("deploy.submit", *words)


def _command(verb: str, name: str, access: Access) -> str:
    return module_line("deploy.submit", *verb.split(), name, "--address", access)
