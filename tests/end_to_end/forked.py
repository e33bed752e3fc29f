"""`python -m` in a process that is forked from one that has imported everything.

Importing is most of what a short command costs: ten seconds of processor time, of two cores. What the command does is
the same. Where the process itself is what a test is about (signals, a terminal, what an import prints), it starts a
real one instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUT, ERR = "stdout.txt", "stderr.txt"


def clean_environment() -> dict[str, str]:
    """Environment without what would point a command at the store or cluster of the person who runs the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "TUNE_"))}


def run_forked(
    module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path, timeout_s: float
) -> int:
    """Runs `python -m module arguments` in `folder`; writes `OUT` and `ERR` to `output`, and returns the exit code.

    Raises:
        TimeoutError: where it takes longer than `timeout_s`; it is killed then.
    """
    process = fork_server().Process(target=become, args=(module, [*arguments], folder, dict(environment), output))
    process.start()
    try:
        process.join(timeout_s)
        if process.exitcode is None:
            raise TimeoutError(f"python -m {module} took longer than {timeout_s:g} s")
        return process.exitcode
    finally:  # the tests may be interrupted, too
        process.kill()


@cache
def fork_server() -> ForkServerContext:
    """Starts the process that others are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.end_to_end.preloaded"])
    with environment_of(clean_environment() | {"PYTHONPATH": str(ROOT)}):
        forkserver.ensure_running()
    return context


@contextmanager
def environment_of(environment: Mapping[str, str]) -> Iterator[None]:
    """Replaces this process's environment for the block."""
    before = dict(os.environ)
    replace_environment(environment)
    try:
        yield
    finally:
        replace_environment(before)


def replace_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def become(module: str, arguments: list[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    """Turns this process into the command."""
    os.chdir(folder)
    replace_environment(environment)
    for descriptor, name in ((1, OUT), (2, ERR)):
        file = os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
