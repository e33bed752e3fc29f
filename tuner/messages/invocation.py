"""Command lines that a person can copy: each works in the shell in which the running command was given."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from trainables.plugins import plugin_files

PROGRAM = "smile-tuner"
"""Name of the console script in `[project.scripts]`."""

TAKES_PLUGINS = frozenset({"search", "compare", "predict", "report", "replay", "methods", "datasets", "keys"})
"""Commands that have the flag `--plugin`: those that read an experiment, or list what one can name."""


def command_line(command: str, *arguments: object) -> str:
    """Returns the line that gives a command of `tuner` with these arguments, with the plugins of this process.

    >>> command_line("report", "my runs/a").endswith("report 'my runs/a'")
    True
    """
    plugins = plugin_flags() if command in TAKES_PLUGINS else []
    return " ".join([f"{invocation()}{command}", *map(shlex.quote, [*map(str, arguments), *plugins])])


def module_line(module: str, *arguments: object) -> str:
    """Returns the line that runs `module` with these arguments by the interpreter of this process.

    >>> module_line("deploy.submit", "list").endswith(" -m deploy.submit list")
    True
    """
    return " ".join([interpreter(), "-m", module, *(shlex.quote(str(argument)) for argument in arguments)])


def invocation() -> str:
    """Returns what stands before the name of a command: `smile-tuner `, `python -m tuner ` or `python -m tuner.`, as
    the user typed it.

    A program that a shell would not find by its name is given by its path.
    """
    program = Path(sys.argv[0])
    if program.name == PROGRAM:
        return f"{_by_name([PROGRAM], program) or _path(program)} "
    return f"{interpreter()} -m tuner{' ' if program.parts[-2:] == ('tuner', '__main__.py') else '.'}"


def interpreter() -> str:
    """Returns the word by which this shell starts the interpreter of this process: `python` in an activated
    environment, else its path."""
    itself = Path(sys.executable)
    return _by_name(["python", "python3", itself.name], itself) or _path(itself)


def plugin_flags() -> list[str]:
    """Returns the flags that give the plugins of this process to another command."""
    return [word for file in plugin_files() for word in ("--plugin", str(file))]


def _by_name(names: list[str], program: Path) -> str | None:
    """The first of `names` by which a shell finds `program`. An environment's interpreter is a link to one that other
    environments have, too, so that the folder counts as well."""
    for name in names:
        found = shutil.which(name)
        if found is not None and _is_same(Path(found).parent, program.parent) and _is_same(Path(found), program):
            return name
    return None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _path(program: Path) -> str:
    """The path of a program, quoted, relative to the working folder where it is below that."""
    try:
        short = program.relative_to(Path.cwd()) if program.is_absolute() else program
    except (ValueError, OSError):  # it is elsewhere, or the working folder is gone
        return shlex.quote(str(program))
    return shlex.quote(str(short) if len(short.parts) > 1 else f"./{short}")
