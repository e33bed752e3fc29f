"""Arguments and exit codes that the commands share; invalid input is reported without a traceback."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainables.errors import MAX_PROBLEMS, BadInput, Problem, os_reason
from trainables.plugins import use_plugins
from tuner.cli.commands import command_parser
from tuner.cli.console import open_missing_streams, silence_unread
from tuner.experiment.packaged_spaces import find_space
from tuner.messages.wording import shown
from tuner.record.directory import RunDirectory
from tuner.record.find import EXPERIMENTS, find_run
from tuner.record.plugin_record import use_recorded_plugins

SUCCEEDED, FAILED, BAD_INPUT = 0, 1, 2
"""Exit codes of the commands."""


def guarded(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit code.

    A `BadInput` is printed, a line for each of the first problems, and gives 2. A reader that closes the pipe early, as
    `head` does, ends the command quietly.
    """
    open_missing_streams()
    code = SUCCEEDED
    try:
        code = command()
        sys.stdout.flush()  # here, not as Python ends, where a closed pipe would be an error
        return code
    except BadInput as bad:
        complain(*(f"error: {problem}" for problem in bad.problems[:MAX_PROBLEMS]))
        if len(bad.problems) > 1:
            of_which = f", of which {MAX_PROBLEMS} are shown" if len(bad.problems) > MAX_PROBLEMS else ""
            complain(f"{len(bad.problems)} problems{of_which}; nothing was started")
        return BAD_INPUT
    except KeyboardInterrupt:
        complain("interrupted")
        return FAILED
    except BrokenPipeError:
        if not silence_unread():
            raise
        return code


def complain(*lines: str) -> None:
    """Prints lines to stderr, if they can be: the terminal may have been closed."""
    with contextlib.suppress(OSError):
        for line in lines:
            print(line, file=sys.stderr)


def experiment_parser(command: str) -> argparse.ArgumentParser:
    """Builds the argument parser, with the flags that `search` and `compare` share."""
    parser = command_parser(command)
    add_space_flags(parser)
    add = parser.add_argument
    add("--address", metavar="ADDRESS", help="a running Ray cluster (default: one on this machine, for this command)")
    add("--tracking-uri", metavar="URI", help="override tracking.uri")
    add("--name", metavar="NAME", help="override the experiment's name")
    resume = "resume the latest run of this name; without --space: a name, NAME/RUN or an experiment directory"
    add("--resume", nargs="?", const=True, default=False, metavar="RUN", help=resume)
    add("--dry-run", action="store_true", help="check everything, print the resolved experiment, start nothing")
    add("--smoke", action="store_true", help="run all of it with little data and few steps: about a minute")
    add("--json", type=Path, metavar="FILE", help="write the result there, for other programs")
    add_plugin_flag(parser)
    return parser


def add_space_flags(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Adds `--space`, the experiment file, and `--set`, its overrides."""
    add = parser.add_argument
    help = "the experiment, as YAML; or the name of a packaged one, e.g. smile"
    add("--space", type=Path, metavar="FILE", required=required, help=help)
    help = "override a leaf, e.g. data.root=/photos"
    add("--set", type=key_value, action="append", default=[], metavar="KEY=VALUE", help=help)


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the arguments of `experiment_parser`. Exits with the usage if --space and --resume do not fit together."""
    arguments = parser.parse_args(argv)
    if (arguments.space is None) != isinstance(arguments.resume, str):
        parser.error("exactly one of --space FILE (with or without --resume) and --resume RUN must be given")
    return arguments


def resolve_space_file(arguments: argparse.Namespace) -> argparse.Namespace:
    """Sets `space` to a file: that of a packaged name, or of the run to resume, which is downloaded from a mirror. From
    now on the plugins that are given are used, and those that are recorded with the run that the file is of.

    Raises:
        BadInput: if there is no such file or run, or no such plugin.
    """
    use_plugins(arguments.plugin)
    if arguments.space is None:
        given = dict(arguments.set)
        root = Path(given.get("tracking.directory", EXPERIMENTS))
        if mirror := given.get("tracking.mirror"):
            from tuner.record.mirror import download_run  # imports pyarrow, which only a mirror needs

            download_run(str(mirror), arguments.resume, root)
            arguments.set.append(("tracking.directory", str(root)))  # its record has the folder of another machine
        arguments.space = find_run(arguments.resume, root, "--resume").space
    else:
        arguments.space = find_space(arguments.space, "--space")
    directory = RunDirectory(arguments.space.parent)
    if directory.has_begun:
        use_recorded_plugins(directory)
    return arguments


def add_directory_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--directory`, the folder below which a command looks for runs."""
    help = f"folder of the experiments (default: {EXPERIMENTS})"
    parser.add_argument("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help=help)


def say_first(arguments: argparse.Namespace) -> None:
    """Prints what the command begins with, before its imports, which take seconds."""
    print(f"checking {arguments.space}", flush=True)


def add_plugin_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--plugin`, the files with further methods, datasets and measures; see `use_plugins`."""
    help = "a Python file with methods, datasets or measures of your own; repeatable"
    parser.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE", help=help)


FLAGS = {
    "name": "--name",
    "tracking.uri": "--tracking-uri",
    "search.trials": "--trials",
    "search.warm_start": "--warm-start",
}
"""Flag that overrides a leaf, by dotted path; `--set` overrides any. Not every command has all of them."""


def overrides_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the leaves that flags override, by dotted path."""
    return dict(arguments.set) | {path: _given(arguments, flag) for path, flag in flags_of(arguments).items()}


def flags_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the flag that overrides each leaf, by dotted path, where it is not `--set`; for messages."""
    return {path: flag for path, flag in FLAGS.items() if _given(arguments, flag) is not None}


def outputs_of(arguments: argparse.Namespace) -> dict[str, Path]:
    """Returns the files that flags ask for besides the record, by flag."""
    return {"--json": arguments.json} if arguments.json is not None else {}


def write_json(write: Callable[[Path], None], file: Path | None) -> bool:
    """Calls `write` with the file of `--json`, if one is given. Returns False, with a message, where it cannot be
    written: the folder has been removed or has become full meanwhile, and the record is there all the same."""
    if file is None:
        return True
    try:
        with writing("--json", file):
            write(file)
    except BadInput as bad:
        complain(f"error: {bad}")
        return False
    return True


@contextlib.contextmanager
def writing(flag: str, file: Path) -> Iterator[None]:
    """Raises BadInput at `flag`, in the place of an OSError, if the block cannot write `file`."""
    try:
        yield
    except OSError as error:
        raise BadInput(Problem(flag, "a file that can be written", f"{file}: {os_reason(error)}")) from None


def _given(arguments: argparse.Namespace, flag: str) -> Any:
    return getattr(arguments, flag.removeprefix("--").replace("-", "_"), None)


def key_value(text: str) -> tuple[str, Any]:
    """Parses `KEY=VALUE`, with the value as YAML. Raises ArgumentTypeError.

    >>> key_value("method.alpha={uniform: [0, 1]}")
    ('method.alpha', {'uniform': [0, 1]})
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip("."):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    from tuner.experiment.strict_yaml import parse_yaml

    try:
        return key, parse_yaml(value)
    except BadInput as bad:
        raise argparse.ArgumentTypeError(f"{key}: expected {bad.problems[0].expected}, got {shown(value)}") from None
