"""Serves the MLflow UI on the store of the searches: `python -m tuner.ui`, or `make ui`.

The server has one worker and no job runner: MLflow's defaults start ten processes, and each request takes 40 ms more.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import guarded
from tuner.cli.commands import command_parser
from tuner.cli.ports import HOST, check_port

QUIET = "--log-level warning --no-access-log"
"""Options of uvicorn, which would print a line for each request."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its process becomes the server. Exit code 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("ui")
    parser.add_argument("--tracking-uri", metavar="URI", help="the store (default: MLFLOW_TRACKING_URI or ./mlflow.db)")
    parser.add_argument("--port", type=int, default=5000, help="port of this machine (default: 5000)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Serves the store that the arguments or the environment name. Raises as `serve`."""
    from tuner.experiment.settings import tracking_uri

    return serve(tracking_uri(arguments.tracking_uri), arguments.port)


def serve(uri: str, port: int) -> int:
    """Prints the address of the trials of the latest search, then replaces this process by the server.

    Raises:
        BadInput: if `uri` is a tracking server, which has a UI of its own, or a store that is not there or cannot be
            opened, or if `port` is taken.
    """
    from tuner.messages.redaction import without_credentials

    shown_uri = without_credentials(uri)
    if uri.startswith(("http://", "https://")):
        expected = "a database (a tracking server has its UI at its own address)"
        raise BadInput(Problem("--tracking-uri", expected, shown_uri))
    check_port(port)
    from tuner.tracking.store import check_is_store, prepare_store
    from tuner.tracking.ui_views import latest_page

    check_is_store(uri, "--tracking-uri")
    prepare_store(uri, "Default")
    print(f"http://{HOST}:{port}/{latest_page(uri)}", flush=True)
    os.execve(sys.executable, server_command(uri, port), server_environment(os.environ))


def server_command(uri: str, port: int) -> list[str]:
    """Builds the server's command line; the server accepts connections of this machine alone."""
    stores = ["--backend-store-uri", uri, "--registry-store-uri", uri]  # of the second, MLflow would print a line
    options = [*stores, "--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", QUIET]
    return [sys.executable, "-m", "mlflow", "server", *options]


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns `environment` with the server's variables added. Warnings are about code of MLflow: none is shown, unless
    `environment` says which are."""
    return {"PYTHONWARNINGS": "ignore", **environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


if __name__ == "__main__":
    raise SystemExit(main())
