"""The MLflow UI on the right store: `python -m tuner.ui`, or `make ui`.

One worker and no job runner: MLflow's defaults start ten processes and answer each request forty milliseconds later.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import guarded
from tuner.cli.commands import command_parser
from tuner.experiment.settings import tracking_uri
from tuner.messages.redaction import without_credentials
from tuner.tracking.store import prepare_store
from tuner.tracking.ui_views import pages_of_searches


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the UI until it is stopped; becomes the server's process."""
    parser = command_parser("ui")
    parser.add_argument("--tracking-uri", metavar="URI", help="the store (default: MLFLOW_TRACKING_URI or ./mlflow.db)")
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args(argv)
    return guarded(lambda: serve(tracking_uri(arguments.tracking_uri), arguments.port))


def serve(uri: str, port: int) -> int:
    """Replaces this process by the server. Raises BadInput where `uri` is a server already: that has its own UI."""
    shown_uri = without_credentials(uri)
    if uri.startswith(("http://", "https://")):
        expected = "a database; a tracking server has its UI at its own address"
        raise BadInput(Problem("--tracking-uri", expected, shown_uri))
    prepare_store(uri, "Default")
    address = f"http://127.0.0.1:{port}"
    print(f"MLflow UI of {shown_uri}: {address}  (Ctrl-C ends it)")
    for name, page in pages_of_searches(uri).items():
        print(f"  {name}: {address}/{page}")
    sys.stdout.flush()
    os.execve(sys.executable, server_command(uri, port), server_environment(os.environ))


def server_command(uri: str, port: int) -> list[str]:
    """The server's command line: this machine only."""
    options = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *options]


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The server's environment."""
    return {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


if __name__ == "__main__":
    raise SystemExit(main())
