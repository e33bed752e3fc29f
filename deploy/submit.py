"""Submits a search to a Ray cluster, follows it, and copies its results here. The job does not need this machine:
Ctrl-C leaves it running, and `logs -f` follows it again.

    python -m deploy.submit --space FILE --address http://head:8265 [--name NAME] [--set KEY=VALUE]… [--no-follow]
    python -m deploy.submit --space FILE --address … --resume NAME    # continue, also on another cluster
    python -m deploy.submit list --address …
    python -m deploy.submit status|logs [-f]|stop|result NAME --address …

Exit codes: 0 done (or left running), 1 the job failed or its results are out of reach, 2 bad input, 3 the cluster
cannot be reached or declines, 4 the job was stopped. The token is that of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from deploy.client import return_commands
from deploy.job_commands import client_of, follow_to_exit_code, list_jobs, logs, result, status, stop
from deploy.job_server import ClusterError
from deploy.output import DONE, UNREACHABLE, Output
from deploy.submit_arguments import job_parser, submit_parser
from trainables.plugins import use_plugins
from tuner.cli.arguments import guarded
from tuner.experiment.packaged_spaces import find_space

VERBS: dict[str, Callable[[argparse.Namespace, Output], int]] = {
    "status": status,
    "logs": logs,
    "stop": stop,
    "list": list_jobs,
    "result": result,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = words.pop(0) if words and words[0] in VERBS else None
    command = VERBS[verb] if verb else submit
    parser = job_parser(verb, command.__doc__) if verb else submit_parser(__doc__ or "")
    arguments = parser.parse_args(words)

    def run() -> int:
        try:
            return command(arguments, Output(arguments.json))
        except ClusterError as error:
            print(f"error: {error}", file=sys.stderr)
            return UNREACHABLE

    return guarded(run)


def submit(arguments: argparse.Namespace, output: Output) -> int:
    """Checks an experiment here and on the cluster, starts its job, and follows it."""
    from deploy.submission import new_submission, send  # with all of the science, which the other verbs do not need

    use_plugins(arguments.plugin)
    overrides = dict(arguments.set)
    overrides |= {"tracking.uri": arguments.tracking_uri} if arguments.tracking_uri else {}
    overrides |= {"search.trials": arguments.trials} if arguments.trials is not None else {}
    space = find_space(arguments.space, "--space")
    submission = new_submission(space, overrides, arguments.name, arguments.resume, arguments.smoke, arguments.workers)
    client = client_of(arguments)
    found = send(submission, client, arguments.dry_run, output)
    name = submission.name
    if arguments.dry_run:
        output.finish({"name": name, "directory": found.directory, "cluster": asdict(found)})
        return DONE
    output.say(f"{name} is submitted")
    if arguments.follow:
        return follow_to_exit_code(client, name, output)
    output.say(return_commands(name, client.access))
    output.finish(client.newest(name).model_dump())
    return DONE


if __name__ == "__main__":
    sys.exit(main())
