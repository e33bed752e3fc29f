"""The commands: their names, what each does, and what a user types for it. Imports nothing that takes time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = "smile-tuner"
"""The console script, as `[project.scripts]` names it."""

COMMANDS: Mapping[str, str] = {
    "search": "Search hyper-parameters, retrain the best configuration, register the model.",
    "compare": "Compare methods, with a paired test against a reference.",
    "predict": "Name what is in photos, or texts, by a trained model.",
    "list": "List searches and comparisons: state, best score, age.",
    "stop": "Stop a search; what is finished is kept.",
    "report": "Write a search's report, as HTML.",
    "replay": "Bring MLflow into line with a run; twice changes nothing.",
    "ui": "Look at searches in the MLflow UI.",
    "methods": "List the methods of fine-tuning.",
    "datasets": "List the datasets.",
    "backbones": "List the pre-trained networks.",
}
"""Each command's one-line description. A command is the module of its name at the top of the package `tuner`."""


def command_parser(command: str) -> argparse.ArgumentParser:
    """The argument parser of a command, without arguments: named as it was typed, described as in `COMMANDS`."""
    return argparse.ArgumentParser(prog=f"{invocation()}{command}", description=COMMANDS[command])


def invocation() -> str:
    """What was typed before the command's name: `smile-tuner `, `python -m tuner `, or `python -m tuner.`."""
    program = Path(sys.argv[0])
    if program.stem == PROGRAM:
        return f"{PROGRAM} "
    return "python -m tuner " if program.parts[-2:] == ("tuner", "__main__.py") else "python -m tuner."
