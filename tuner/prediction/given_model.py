"""The model that a command is given: a folder, a run, a URI of MLflow, or else the latest.

Quick to import: the parsers of commands import it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import BadInput, Problem
from tuner.record.find import EXPERIMENTS, runs_below

if TYPE_CHECKING:
    from trainables.classifier import Classifier

DESCRIPTION = "classifier.json"
"""File that makes a folder a model; `trainables.classifier`, which writes it, is slow to import."""
MLFLOW_URI = re.compile(r"[a-z]+:/")
"""Beginning of a URI of MLflow: `models:/…`, `runs:/…`."""


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which model: --model, --directory, --tracking-uri."""
    add = parser.add_argument
    add("--model", help="models:/<name>@champion, a model's folder, or a run's (default: the latest model)")
    add("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help="where to look for the latest model")
    add("--tracking-uri", metavar="URI", help="MLflow store (default: MLFLOW_TRACKING_URI, else ./mlflow.db)")


def given_model(arguments: argparse.Namespace) -> Classifier:
    """Loads the model that the flags of `add_model_flags` name. Says on stderr which, if it is the latest.

    Raises:
        BadInput: if there is none, or it cannot be loaded.
    """
    model = arguments.model
    if model is None:
        model = latest_model(arguments.directory, arguments.tracking_uri)
        print(f"model: {model} (the latest; --model names another)", file=sys.stderr)
    return load_model(model, arguments.tracking_uri)


def load_model(model: str, uri: str | None = None) -> Classifier:
    """Loads the classifier in a folder or a run directory, or that of an MLflow URI (`models:/…`, `runs:/…`).

    `uri` is that of the MLflow store; without it MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

        load_model("models:/digits@champion").predict(["photo.jpg"])

    Raises:
        BadInput: where there is no such model.
    """
    if MLFLOW_URI.match(model) is None:
        from trainables.classifier import Classifier

        of_run = Path(model, "model")
        return Classifier.load(of_run if (of_run / DESCRIPTION).is_file() else Path(model))
    from tuner.experiment.settings import tracking_uri
    from tuner.tracking.registry import load_classifier

    return load_classifier(model, tracking_uri(uri))


def latest_model(directory: Path, uri: str | None = None) -> str:
    """Returns the model of the newest run below `directory` that has one, else the newest champion of the store.

    A store that is given by `uri` is asked alone.

    Raises:
        BadInput: if neither has a model.
    """
    if uri is None:
        for run in reversed(runs_below(directory, depth=2)):
            if (run.model / DESCRIPTION).is_file():
                return str(run.model)
    from tuner.experiment.settings import tracking_uri
    from tuner.messages.redaction import without_credentials
    from tuner.tracking.registry import newest_champion

    store = tracking_uri(uri)
    champion = newest_champion(store)
    if champion is None:
        places = f"the store {without_credentials(store)}"
        places = places if uri is not None else f"{directory} and {places}"
        raise BadInput(Problem("--model", f"a model's folder or models:/NAME@champion ({places} have none)", "nothing"))
    return champion
