"""Command line of `deploy.submit`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from deploy.job import check_job_name
from trainables.errors import BadInput
from tuner.cli.arguments import add_plugin_flag, key_value
from tuner.messages.invocation import module_line


def submit_parser(documentation: str) -> argparse.ArgumentParser:
    """The parser for submitting; `documentation` is a summary and, after an empty line, the details."""
    summary, _, details = documentation.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog=module_line("deploy.submit"),
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
    names.add_argument("--name", metavar="NAME", help="the job's name (default: a new one)")
    names.add_argument("--resume", metavar="NAME", help="continue the job of that name where it was cut off")
    add(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="ask for so many workers first, and wait for them (default: for one, where there is none)",
    )
    add("--smoke", action="store_true", help="run all of it with little data and few steps: about a minute")
    add_plugin_flag(parser)
    add("--follow", action=argparse.BooleanOptionalAction, default=True, help="stay until it has ended")
    add("--dry-run", action="store_true", help="check everything, on the cluster too, and start no search")
    _add_access(parser)
    return parser


def job_parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command about jobs that were submitted before."""
    parser = argparse.ArgumentParser(prog=module_line("deploy.submit", verb), description=description)
    if verb != "list":
        parser.add_argument("name", metavar="NAME", type=_job_name, help="the job's name")
    if verb == "logs":
        parser.add_argument("-f", "--follow", action="store_true", help="stay until it has ended")
    if verb == "result":
        parser.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: results/NAME)")
        help = "the experiments' folder or s3://…, for a job that the cluster no longer knows"
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
