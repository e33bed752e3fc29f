"""Run on a cluster's head by `deploy.submit`, as small jobs beside the search: looks whether it can run there, and
sends its results home.

    python -m deploy.head look --space space.yaml --job NAME [--resume] [--workers N]
    python -m deploy.head send --directory DIRECTORY

What they find is printed as lines that a program can tell from whatever else is in a job's log. This module needs
nothing but Python and what comes with Ray: it also runs where the project's requirements are not met, and says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.findings import PYPROJECT, Findings, missing_requirements


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.head")
    verbs = parser.add_subparsers(dest="verb", required=True)
    look = verbs.add_parser("look", help="whether an experiment can run here")
    look.add_argument("--space", type=Path, required=True)
    look.add_argument("--job", required=True)
    look.add_argument("--resume", action="store_true")
    look.add_argument("--workers", type=int, default=0)
    send = verbs.add_parser("send", help="print a job's results")
    send.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args(argv)
    if missing := missing_requirements(PYPROJECT):
        print(Findings(refusals=[f"the head lacks {', '.join(missing)}"]).line())
        return 0
    from deploy import preflight  # needs the project's requirements

    if arguments.verb == "look":
        print(preflight.look(arguments.space, arguments.job, arguments.resume, arguments.workers).line())
        return 0
    return preflight.send(arguments.directory)


if __name__ == "__main__":
    sys.exit(main())
