"""Renders the files of a way to run from the settings.

python -m deploy.render TARGET [--settings FILE] [--set KEY=VALUE]… [--output FOLDER]

Templates are in deploy/templates, in Jinja2. Values are written as JSON into YAML, and as one quoted word into a shell
script, so that no value can change the structure of the file.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.settings import Settings, load_settings
from trainables.errors import BadInput, Problem
from tuner.cli.arguments import SUCCEEDED, guarded, key_value
from tuner.messages.invocation import module_line

TEMPLATES = Path(__file__).parent / "templates"


class Target(Enum):
    """A way to run: its name on the command line, and the name of its file and template."""

    NAMESPACE = "namespace", "namespace.yaml"
    RAYCLUSTER = "raycluster", "raycluster.yaml"
    RAYJOB = "rayjob", "rayjob.yaml"
    MLFLOW = "mlflow", "mlflow.yaml"
    RAY_UP = "ray-up", "ray_cluster.yaml"
    RAY_UP_AWS = "ray-up-aws", "ray_cluster_aws.yaml"
    SLURM = "slurm", "search.sbatch"
    COMPOSE_ENV = "compose-env", "compose.env"

    def __init__(self, command: str, file: str) -> None:
        self.command = command
        self.file = file

    @classmethod
    def by_command(cls, command: str) -> Target:
        """The target with that name on the command line. Raises StopIteration where there is none."""
        return next(target for target in cls if target.command == command)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0, or 2 for bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=module_line("deploy.render"), description="Render the files of a way to run.")
    parser.add_argument("target", choices=[target.command for target in Target])
    add_settings(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the file there (default: print it)")
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that choose the settings."""
    parser.add_argument("--settings", type=Path, metavar="FILE", help="values in place of deploy/settings.yaml's")
    parser.add_argument(
        "--set", type=key_value, action="append", default=[], metavar="KEY=VALUE", help="a leaf, e.g. worker.gpus=8"
    )


def run(arguments: argparse.Namespace) -> int:
    """Renders and prints or writes the file; returns the exit code."""
    target = Target.by_command(arguments.target)
    text = render(target, load_settings(arguments.settings, dict(arguments.set)))
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / target.file).write_text(text, encoding="utf-8")
        print(arguments.output / target.file)
    return SUCCEEDED


def render(target: Target, settings: Settings) -> str:
    """Returns the text of the target's file.

    Raises:
        BadInput: where the settings lack what the target needs.
    """
    if target is Target.RAY_UP and settings.machines.ssh_key is None:
        raise BadInput(Problem("machines.ssh_key", "the file of the private key that opens the machines", "none"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=as_yaml if target.file.endswith(".yaml") else as_shell,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(target.file).render(s=settings, shell=shlex.join)


def as_yaml(value: Any) -> str:
    """Converts a value to JSON, which is YAML."""
    return json.dumps(value, default=str, ensure_ascii=False)


def as_shell(value: Any) -> str:
    """Converts a value to one quoted word of a shell."""
    return shlex.quote(str(value))


if __name__ == "__main__":
    raise SystemExit(main())
