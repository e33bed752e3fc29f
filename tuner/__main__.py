"""Console script `smile-tuner`, and `python -m tuner`: passes the arguments of a command to its module.

    smile-tuner search --space smile      # = python -m tuner.search --space smile

Only the module of the given command is imported.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import tuner
from trainables.errors import did_you_mean
from tuner.cli.commands import COMMANDS
from tuner.messages.invocation import PROGRAM, invocation


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` (default: the process's) names. Returns its exit code, or 2 if it names none."""
    top = parser()
    given = top.parse_args(argv)
    if given.version:
        print(f"{PROGRAM} {tuner.__version__}")
        return 0
    if given.command is None:
        top.print_help(sys.stderr)
        return 2  # as argparse, if an argument is missing
    exit_code: int = importlib.import_module(f"tuner.{given.command}").main(given.arguments)
    return exit_code


def parser() -> argparse.ArgumentParser:
    """Builds the command line: one command, and its arguments."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {description}" for name, description in COMMANDS.items())
    program = invocation().rstrip(" .")
    parser = argparse.ArgumentParser(
        prog=program,
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Hyper-parameter search for transfer learning.",
        epilog=f"commands:\n{commands}\n\n{program} COMMAND --help lists the arguments of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", type=_command, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _command(text: str) -> str:
    if text not in COMMANDS:
        expected = f"a command ({', '.join(COMMANDS)})"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}{did_you_mean(text, COMMANDS)}")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
