"""Submits a search to a Ray cluster, follows it, and brings its results home. Nothing of it needs this machine once it
has been submitted: Ctrl-C lets go of it, and its name takes it up again.

    python -m deploy.submit --space FILE --address http://head:8265 [--name NAME] [--set KEY=VALUE]… [--no-follow]
    python -m deploy.submit --space FILE --address … --resume NAME    # go on, also on another cluster
    python -m deploy.submit list --address …
    python -m deploy.submit status|logs [-f]|stop|result NAME --address …

Exit codes: 0 done (or let go of), 1 the job failed, 2 bad input, 3 the cluster cannot be reached or declines, 4 the job
was stopped. A cluster that wants a token gets that of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import platform
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray
from rich.console import Console
from rich.table import Table

from deploy.findings import Findings
from deploy.job_server import Access, Cluster, Job, Refused, check_address, token_header
from deploy.package import (
    MIB,
    SPACE_FILE,
    Parcel,
    check_job_name,
    is_absolute,
    new_job_name,
    project_files,
)
from deploy.results import Incomplete, Results, newest_run, pack, unpack
from trainables.errors import BadInput, Problem
from tuner.cli.arguments import guarded, key_value
from tuner.experiment.strict_yaml import read_yaml
from tuner.messages.wording import clock
from tuner.record.history import History
from tuner.record.selection import best_trial

if TYPE_CHECKING:
    from deploy.prepare import Errand

DONE, FAILED, UNREACHABLE, STOPPED = 0, 1, 3, 4
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EXIT_CODES = {"FAILED": FAILED, "STOPPED": STOPPED}
"""Of a job's status; 0 for any other."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = words.pop(0) if words and words[0] in VERBS else None
    arguments = (parser_of(verb) if verb else parser()).parse_args(words)
    command = VERBS[verb] if verb else submit

    def refusable() -> int:
        try:
            return command(arguments)
        except Refused as refused:
            print(f"error: {refused}", file=sys.stderr)
            return UNREACHABLE
        except Incomplete as incomplete:
            print(f"error: {incomplete}; ask for them again", file=sys.stderr)
            return FAILED

    return guarded(refusable)


def parser() -> argparse.ArgumentParser:
    """The flags of submitting."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m deploy.submit",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--space", type=Path, required=True, metavar="FILE", help="the experiment, as YAML")
    add(
        "--set", type=key_value, action="append", default=[], metavar="KEY=VALUE", help="a leaf, e.g. data.root=/photos"
    )
    add("--trials", type=int, metavar="N", help="override search.trials")
    add("--tracking-uri", metavar="URI", help="override tracking.uri: the MLflow server as the cluster reaches it")
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--name", metavar="NAME", help="the job's name (default: one that nobody has)")
    names.add_argument("--resume", metavar="NAME", help="go on with the job of that name where it was cut off")
    add(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="ask for so many workers first, and wait for them (default: for one, where there is none)",
    )
    add("--smoke", action="store_true", help="the same path, tiny: a minute or so")
    add("--follow", action=argparse.BooleanOptionalAction, default=True, help="stay until it has ended")
    add("--dry-run", action="store_true", help="check everything, on the cluster too, and start no search")
    _add_access(parser)
    return parser


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The flags of the other commands."""
    parser = argparse.ArgumentParser(prog=f"python -m deploy.submit {verb}", description=VERBS[verb].__doc__)
    if verb != "list":
        parser.add_argument("name", metavar="NAME", type=_job_name, help="the job's name")
    if verb == "logs":
        parser.add_argument("-f", "--follow", action="store_true", help="stay until it has ended")
    if verb == "result":
        parser.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: results/NAME)")
        help = "the experiments' folder or s3://…, for a job that the cluster has forgotten"
        parser.add_argument("--directory", metavar="FOLDER", help=help)
    _add_access(parser)
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265")
    add = parser.add_argument
    add("--address", default=default, metavar="URL", help=f"the cluster's dashboard (default: {default})")
    add("--ca-file", type=Path, metavar="FILE", help="trust the certificates in it, and no others")
    add("--wait-s", type=float, default=30.0, metavar="SECONDS", help="how long a cluster may take to answer")
    add("--json", action="store_true", help="print the outcome as JSON on stdout, the rest on stderr")


def _job_name(text: str) -> str:
    try:
        return check_job_name(text)
    except BadInput as bad:
        raise argparse.ArgumentTypeError(str(bad)) from None


def submit(arguments: argparse.Namespace) -> int:
    """Checks an experiment here and on the cluster, starts its job, and follows it."""
    # With all of the science, which the other commands need not wait for.
    from deploy.prepare import prepare
    from deploy.settings import load_settings

    say = _say(arguments)
    overrides = dict(arguments.set)
    overrides |= {"tracking.uri": arguments.tracking_uri} if arguments.tracking_uri else {}
    overrides |= {"search.trials": arguments.trials} if arguments.trials is not None else {}
    name = check_job_name(arguments.resume or arguments.name or _made_up_name(arguments.space, overrides))
    job = prepare(arguments.space, overrides, name)
    parcel = Parcel(project_files(), job.text)
    parcel.check()
    cluster = connect(arguments)
    _require_at_rest(cluster, name, bool(arguments.resume))
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "package.zip"
        parcel.write(archive)
        say(f"sending {parcel} ({archive.stat().st_size / MIB:.1f} MiB packed) to {cluster.access}")
        found = _look(cluster, name, job, archive, arguments)
        for note in found.notes:
            say(f"note: {note}")
        where = f"{found.cpus:g} CPUs and {found.gpus:g} GPUs on {found.nodes} node{'s' if found.nodes > 1 else ''}"
        say(f"{job.space.name}: the cluster has {where}; results go to {job.mirror or job.directory}")
        if found.awaited:
            say(_waiting(name, found))
        if arguments.dry_run:
            return _finish(arguments, {"name": name, "directory": job.directory, "cluster": asdict(found)}, DONE)
        submission_id = cluster.free_id(name)
        flags = ["--resume"] * bool(arguments.resume) + ["--smoke"] * arguments.smoke
        wait = load_settings().waiting_for(**found.awaited) if found.awaited else []
        search = ["python", "-m", "tuner.search", "--space", SPACE_FILE, "--address", "auto", *flags]
        command = shlex.join([*wait, *search])
        cluster.submit(f"exec {command}", submission_id, archive, job.environment, _metadata(name, job, arguments))
    say(f"{name} is submitted")
    if arguments.follow:
        return _follow(arguments, cluster, name)
    say(_how_to_come_back(name, cluster.access))
    return _finish(arguments, asdict(cluster.newest(name)), DONE)


def _waiting(name: str, found: Findings) -> str:
    from deploy.workers import Wanted

    there = "" if found.cpus or found.gpus else "no worker is there yet: "
    return f"{there}{name} asks for {Wanted(**found.awaited)}, and waits before it searches"


def _made_up_name(file: Path, overrides: dict[str, Any]) -> str:
    name = overrides.get("name") or read_yaml(file).get("name")
    return new_job_name(str(name or file.stem))


def _metadata(name: str, job: Errand, arguments: argparse.Namespace) -> dict[str, str]:
    user = "unknown"
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return {
        "name": name,
        "user": user,
        "space": arguments.space.name,
        "experiment": job.space.name,
        "directory": job.directory,
        "tracking": job.environment.get("MLFLOW_TRACKING_URI", ""),
    }


def _require_at_rest(cluster: Cluster, name: str, resume: bool) -> None:
    known = [job for job in cluster.jobs() if job.name == name]
    if known and not resume:
        raise BadInput(Problem("--name", f"a new name, or --resume {name}", f"{name!r}, which the cluster knows"))
    for job in known:
        if not job.is_at_rest:
            got = f"{name!r}, which is {job.status.lower()}"
            raise BadInput(Problem("--resume", "a job that has ended or was stopped", got))


def _look(cluster: Cluster, name: str, job: Errand, archive: Path, arguments: argparse.Namespace) -> Findings:
    """Lets the cluster say whether it can run the job. Raises Refused or BadInput where it cannot."""
    words = ["python", "-m", "deploy.head", "look", "--space", SPACE_FILE, "--job", name]
    words += ["--resume"] * bool(arguments.resume) + ["--workers", str(arguments.workers)] * bool(arguments.workers)
    command = shlex.join(words)
    log = cluster.helper(f"exec {command}", f"{name}-look-{secrets.token_hex(3)}", archive, job.environment)
    found = Findings.from_log(log)
    if found is None:
        raise Refused(f"{cluster.access} said nothing of itself")
    for what, here, there in (("Ray", ray.__version__, found.ray), ("Python", platform.python_version(), found.python)):
        if here.split(".")[:2] != there.split(".")[:2]:
            found.refusals.append(f"{what} is {there} there and {here} here: their first two numbers must agree")
    if found.refusals:
        raise Refused(f"{cluster.access}: {'; '.join(found.refusals)}")
    if found.problems:
        # A problem of the packed file is one of the file that it was made of.
        problems = [Problem(**{**problem, "file": ""}) for problem in found.problems]
        raise BadInput(problems).in_file(f"{job.space.file} on {cluster.access}")
    return found


def status(arguments: argparse.Namespace) -> int:
    """How a job stands."""
    job = connect(arguments).newest(arguments.name)
    facts = asdict(job) | _standing(job)
    for key, value in facts.items():
        if value not in (None, "") and not arguments.json:
            print(f"{key.removesuffix('_s'):18} {_when(value) if key.endswith('ed_s') else value}")
    return _finish(arguments, facts, _code(job))


def logs(arguments: argparse.Namespace) -> int:
    """What a job has printed; with -f, until it has ended."""
    cluster = connect(arguments)
    if arguments.follow:
        return _follow(arguments, cluster, arguments.name)
    text = cluster.log(cluster.newest(arguments.name).id)
    if not arguments.json:
        sys.stdout.write(text)
    return _finish(arguments, {"name": arguments.name, "log": text}, DONE)


def stop(arguments: argparse.Namespace) -> int:
    """Ends a job as Ctrl-C would: what is finished is kept, and --resume goes on from there."""
    cluster = connect(arguments)
    cluster.stop(cluster.newest(arguments.name).id)
    job = cluster.newest(arguments.name)
    _say(arguments)(f"{job.name} is {job.status.lower()}; go on with: {_resuming(job, cluster.access)}")
    return _finish(arguments, asdict(job), DONE)


def list_jobs(arguments: argparse.Namespace) -> int:
    """The searches that the cluster knows of, everybody's."""
    jobs = [asdict(job) | _standing(job) for job in connect(arguments).jobs()]
    if not arguments.json:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("name", "user", "space", "started", "took", "state", "best"):
            table.add_column(heading, overflow="fold")
        for job in jobs:
            started = job["started_s"]
            took = clock((job["ended_s"] or time.time()) - started) if started else ""
            best = "" if job.get("best_top1") is None else f"{job['best_top1']:.4f}"
            table.add_row(job["name"], job["user"], job["space"], _when(started), took, job["status"].lower(), best)
        Console(highlight=False).print(table)
    return _finish(arguments, jobs, DONE)


def result(arguments: argparse.Namespace) -> int:
    """Copies a job's best model, report and record home, from the shared folder where this machine sees it, else
    through the cluster; whole, or not at all."""
    name, say = arguments.name, _say(arguments)
    target = arguments.to or Path("results") / name
    cluster = None
    if arguments.directory is not None:
        if not is_absolute(arguments.directory):
            raise BadInput(Problem("--directory", "a whole path, as it is on the cluster", repr(arguments.directory)))
        directory = f"{arguments.directory.rstrip('/')}/{name}"
    else:
        cluster = connect(arguments)
        directory = cluster.newest(name).directory
    with tempfile.TemporaryDirectory() as folder:
        run = newest_run(_copied(directory, Path(folder)) if "://" in directory else Path(directory))
        unpack(pack(run) if run is not None else _fetched(cluster or connect(arguments), name, directory), target)
    history = History.read(target)
    got = "model, report and record" if (target / "model").exists() else "record alone, as there is no model yet"
    say(f"{target}: {got}, complete by SHA-256" + ("" if history.finished else "; the search has not finished"))
    return _finish(arguments, {"name": name, "folder": str(target.resolve()), **_best(history)}, DONE)


def _copied(mirror: str, folder: Path) -> Path:
    """`folder`, with a copy of the newest run that a job has in its mirror."""
    from tuner.record.mirror import Mirror, fetch

    experiments = Mirror.of(mirror).names()
    if not experiments:
        raise BadInput(Problem("--directory", "a place that has a copy of the job", mirror))
    for experiment in experiments:  # a job has one
        fetch(mirror, experiment, folder)
    return folder


def _fetched(cluster: Cluster, name: str, directory: str) -> Results:
    """The results by way of a job's log: plain Ray offers no other, and a cluster may have no other."""
    command = shlex.join(["python", "-m", "deploy.head", "send", "--directory", directory])
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "package.zip"
        Parcel(project_files()).write(archive)
        log = cluster.helper(f"exec {command}", f"{name}-send-{secrets.token_hex(3)}", archive, {})
    return Results.from_lines(log)


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": status,
    "logs": logs,
    "stop": stop,
    "list": list_jobs,
    "result": result,
}


def connect(arguments: argparse.Namespace) -> Cluster:
    """The cluster that the flags name. Raises BadInput, or Refused where it does not answer."""
    if arguments.ca_file is not None and not arguments.ca_file.exists():
        raise BadInput(Problem("--ca-file", "a file of certificates", str(arguments.ca_file)))
    verify = str(arguments.ca_file) if arguments.ca_file is not None else True
    url = urlsplit(check_address(arguments.address))
    if url.scheme == "http" and url.hostname not in LOOPBACK and token_header():
        print(
            f"note: the token goes to {url.hostname} unencrypted; https or an SSH tunnel would hide it", file=sys.stderr
        )
    return Cluster(Access(arguments.address, verify, arguments.wait_s))


def _follow(arguments: argparse.Namespace, cluster: Cluster, name: str) -> int:
    out = sys.stderr if arguments.json else sys.stdout
    job, say = cluster.newest(name), _say(arguments)

    def show(text: str) -> None:
        out.write(text)
        out.flush()

    try:
        cluster.follow(job.id, show)
    except KeyboardInterrupt:
        say(f"\n{name} goes on without this command\n{_how_to_come_back(name, cluster.access)}")
        return DONE
    except Refused as refused:
        raise Refused(f"{refused}; what is finished is kept, go on with: {_resuming(job, cluster.access)}") from None
    job = cluster.newest(name)
    say(f"{name} {job.status.lower()}")
    if job.status == "SUCCEEDED":
        say(f"bring it home with: {_command('result', name, cluster.access)}")
    else:
        say(f"go on with: {_resuming(job, cluster.access)}")
    return _finish(arguments, asdict(job) | _standing(job), _code(job))


def _code(job: Job) -> int:
    return EXIT_CODES.get(job.status, DONE)


def _when(time_s: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s)) if time_s else ""


def _standing(job: Job) -> dict[str, Any]:
    """What the journal says, where this machine sees it."""
    run = newest_run(Path(job.directory))
    return _best(History.read(run)) if run is not None else {}


def _best(history: History) -> dict[str, Any]:
    best = best_trial(history.trials.values())
    return {"trials": len(history.trials), "best_top1": None if best is None else best.val_top1}


def _command(verb: str, name: str, access: Access) -> str:
    return shlex.join(["python", "-m", "deploy.submit", *verb.split(), name, "--address", str(access)])


def _how_to_come_back(name: str, access: Access) -> str:
    verbs = ("logs -f", "status", "stop", "result")
    return "\n".join(f"  {_command(verb, name, access)}" for verb in verbs)


def _resuming(job: Job, access: Access) -> str:
    words = ["--space", job.space, "--resume", job.name, "--address", str(access)]
    return shlex.join(["python", "-m", "deploy.submit", *words])


def _say(arguments: argparse.Namespace) -> Callable[[str], None]:
    file = sys.stderr if arguments.json else sys.stdout
    return lambda text: print(text, file=file, flush=True)


def _finish(arguments: argparse.Namespace, outcome: Any, code: int) -> int:
    if arguments.json:
        print(json.dumps(outcome, indent=2))
    return code


if __name__ == "__main__":
    sys.exit(main())
