"""The commands: their names, descriptions and argument parsers. Imports nothing that is slow to import."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from tuner.messages.invocation import invocation

COMMANDS: Mapping[str, str] = {
    "init": "Write an experiment file for a folder of photographs.",
    "search": "Search hyper-parameters, retrain the best configuration, register the model.",
    "compare": "Compare methods, with a paired test against a reference.",
    "predict": "Classify photos, or texts, with a trained model, or score it on labelled ones.",
    "export": "Write a trained model as ONNX, torch.export or safetensors.",
    "try": "Open a page to drop photos on, and see what a trained model says.",
    "list": "List searches and comparisons: state, best score, age.",
    "stop": "Stop a search or comparison; finished folds and trainings are kept.",
    "report": "Write or serve a search's report, or a page that compares searches, as HTML.",
    "preview": "Write a picture of a training batch as the network sees it.",
    "replay": "Sync MLflow with a run; it may be repeated.",
    "ui": "Serve the MLflow UI with the searches.",
    "keys": "Explain the keys of an experiment file.",
    "methods": "List the methods of fine-tuning.",
    "datasets": "List the datasets.",
    "backbones": "List the pre-trained networks.",
}
"""One-line description of each command, by name, which is also that of its module in `tuner`."""


def command_parser(command: str) -> argparse.ArgumentParser:
    """Builds the argument parser of a command, without arguments."""
    return argparse.ArgumentParser(prog=f"{invocation()}{command}", description=COMMANDS[command])
