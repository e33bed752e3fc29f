"""An experiment made ready to run elsewhere.

It may name only what is there: folders by their whole path, a tracking server by an address without a password in it.
Everything that is wrong is said before anything is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.package import is_absolute
from deploy.settings import load_settings
from trainables.errors import BadInput, Problem
from tuner.experiment.checks import check_experiment
from tuner.experiment.extends import locate_problems
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment, read_tree
from tuner.experiment.tree import PATHS, flatten
from tuner.messages.redaction import without_credentials

OF_THE_CLUSTER = ("data.root", "backbone.checkpoint", "tracking.uri")
"""Leaves that say where something lies there; whether it does is found out there."""

SECRETS_ADVICE = (
    "no password or token: job records show them to everyone who reaches the cluster; set MLFLOW_TRACKING_URI, or "
    "MLFLOW_TRACKING_USERNAME and _PASSWORD, in the environment of its nodes"
)


@dataclass(frozen=True)
class Errand:
    """An experiment made ready to run elsewhere. `directory` is the job's own folder there, and `mirror` where that is
    copied, if it is; `environment` is what the job is told in public; `text` the experiment as it travels."""

    space: SearchExperiment
    directory: str
    mirror: str | None
    environment: dict[str, str]
    text: str


def prepare(file: Path, overrides: Mapping[str, Any], job: str) -> Errand:
    """Reads and checks the experiment as `tuner.search` does, and gives the job a folder of its own for its results, in
    the experiment's `tracking.directory`, or else in the place that deploy/settings.yaml names. Where that is an object
    store, the folder is on the head, and the store is its mirror.

    Raises:
        BadInput: with everything that is wrong with it, or that only holds on this machine.
    """
    with locate_problems(file, overrides):
        tree = read_tree(file, overrides)
        space = parse_experiment(tree, str(file))
        uri = space.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
        problems = [*_places(tree), *_secrets(tree), *_problems_of_tracking(uri), *_problems_here(space)]
        if problems:
            raise BadInput(dict.fromkeys(problems)).in_file(str(file))
    tracking = {key: value for key, value in (tree.get("tracking") or {}).items() if key != "uri"}
    storage = load_settings().storage
    place, mirror = str(tracking.get("directory") or storage.experiments), tracking.get("mirror")
    if "://" in place:
        place, mirror = storage.local, mirror or place
    places = {"directory": f"{place.rstrip('/')}/{job}"} | ({"mirror": f"{mirror.rstrip('/')}/{job}"} if mirror else {})
    tree["tracking"] = tracking | places
    environment = {"MLFLOW_TRACKING_URI": uri} if uri else {}
    if mirror and storage.is_s3:
        environment |= {"AWS_DEFAULT_REGION": storage.region}
        environment |= {"AWS_ENDPOINT_URL": storage.endpoint} if storage.endpoint else {}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return Errand(space, places["directory"], places.get("mirror"), environment, text)


def _places(tree: Mapping[str, Any]) -> Iterator[Problem]:
    leaves = {"tracking.directory": (tree.get("tracking") or {}).get("directory")}
    leaves |= {f"{section}.{key}": (tree.get(section) or {}).get(key) for section, key in PATHS.items()}
    for where, value in leaves.items():
        if isinstance(value, str) and not is_absolute(value):
            yield Problem(where, "a whole path, as it is on the cluster", repr(value))


def _secrets(tree: Mapping[str, Any]) -> Iterator[Problem]:
    for where, value in flatten(tree).items():
        text = str(value)
        if (shown := without_credentials(text)) != text:
            yield Problem(where, SECRETS_ADVICE, shown)


def _problems_of_tracking(uri: str | None) -> Iterator[Problem]:
    if uri is None:
        return  # the cluster's nodes may have one
    if (shown := without_credentials(uri)) != uri:
        yield Problem("tracking.uri", SECRETS_ADVICE, shown)
    elif "://" not in uri or (uri.startswith("sqlite:") and not uri.startswith("sqlite:////")):
        expected = "a server as the cluster reaches it, http://mlflow:5000, or a file by its whole path, sqlite:////…"
        yield Problem("tracking.uri", expected, uri)


def _problems_here(space: SearchExperiment) -> list[Problem]:
    """What `tuner.search` would say, but for what depends on the machine that it runs on."""
    try:
        check_experiment(space)
    except BadInput as bad:
        return [problem for problem in bad.problems if problem.where not in OF_THE_CLUSTER]
    return []
