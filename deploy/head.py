"""Checks on a cluster's head whether an experiment can run there; a small job that `deploy.submit` starts first.

    python -m deploy.head --space space.yaml --job NAME [--resume] [--workers N]

Prints one line that `Findings.from_log` finds among whatever else is in the job's log. Imports what `deploy.findings`
may import: it also runs where the project's requirements are not met, and says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.findings import PYPROJECT, Findings, missing_requirements


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0, whatever it finds."""
    parser = argparse.ArgumentParser(prog="python -m deploy.head", description="Whether an experiment can run here.")
    parser.add_argument("--space", type=Path, required=True, metavar="FILE", help="the experiment, as YAML")
    parser.add_argument("--job", required=True, metavar="NAME", help="the job's name")
    parser.add_argument("--resume", action="store_true", help="the job continues one that was cut off")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="workers that it will wait for")
    arguments = parser.parse_args(argv)
    if missing := missing_requirements(PYPROJECT):
        print(Findings(refusals=(f"the head lacks {', '.join(missing)}",)).as_line())
        return 0
    from deploy.preflight import check_cluster  # needs the project's requirements

    print(check_cluster(arguments.space, arguments.job, arguments.resume, arguments.workers).as_line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
