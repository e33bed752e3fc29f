"""A dataclass as the command line of a process that is given it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def as_arguments(task: Any) -> list[str]:
    """The fields of a dataclass, `--name=value` each, as `from_arguments` reads them.

    >>> from pathlib import Path
    >>> from benchmarks.peers.task import Task
    >>> as_arguments(Task(Path("photos"), mirrored=False))[:3]
    ['--root=photos', '--mirrored=False', '--size-px=128']
    """
    return [f"{_flag(each.name)}={getattr(task, each.name)}" for each in fields(task)]


def from_arguments(kind: type[T], argv: Sequence[str] | None = None) -> T:
    """The dataclass that a command line states in full; fields are of type bool, int, float, str or Path."""
    parser = argparse.ArgumentParser()
    hints = get_type_hints(kind)
    for each in fields(kind):  # type: ignore[arg-type]
        read = "True".__eq__ if hints[each.name] is bool else hints[each.name]
        parser.add_argument(_flag(each.name), type=read, required=True)
    return kind(**vars(parser.parse_args(argv)))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
