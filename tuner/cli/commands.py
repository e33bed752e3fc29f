"""The commands: their names, descriptions and argument parsers. Imports nothing that is slow to import."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = "smile-tuner"
"""Name of the console script in `[project.scripts]`."""

COMMANDS: Mapping[str, str] = {
    "search": "Search hyper-parameters, retrain the best configuration, register the model.",
    "compare": "Compare methods, with a paired test against a reference.",
    "predict": "Classify photos, or texts, with a trained model, or score it on labelled ones.",
    "export": "Write a trained model as ONNX, torch.export or safetensors.",
    "try": "Open a page to drop photos on, and see what a trained model says.",
    "list": "List searches and comparisons: state, best score, age.",
    "stop": "Stop a search or comparison; finished folds and trainings are kept.",
    "report": "Write a search's report, as HTML.",
    "replay": "Sync MLflow with a run; it may be repeated.",
    "ui": "Serve the MLflow UI with the searches.",
    "methods": "List the methods of fine-tuning.",
    "datasets": "List the datasets.",
    "backbones": "List the pre-trained networks.",
}
"""One-line description of each command, by name, which is also that of its module in `tuner`."""


def command_parser(command: str) -> argparse.ArgumentParser:
    """Builds the argument parser of a command, without arguments."""
    return argparse.ArgumentParser(prog=f"{invocation()}{command}", description=COMMANDS[command])


def invocation() -> str:
    """Returns the program as the user typed it before the command: `smile-tuner `, `python -m tuner ` or
    `python -m tuner.`."""
    program = Path(sys.argv[0])
    if program.stem == PROGRAM:
        return f"{PROGRAM} "
    return "python -m tuner " if program.parts[-2:] == ("tuner", "__main__.py") else "python -m tuner."
