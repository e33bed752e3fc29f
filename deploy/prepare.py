"""Preparation of an experiment for a cluster: checks it here, and collects the environment of its job.

The job's folder is decided on the cluster (`deploy.preflight`), which knows its storage. Folders must be absolute
paths, and the tracking server an address without a password. All mistakes are reported before anything is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.package import sent_plugins
from deploy.results import ABSOLUTE_PATH, is_absolute
from trainables.errors import BadInput, Problem
from trainables.plugins import VARIABLE
from tuner.experiment.alternatives import beside_alternatives
from tuner.experiment.checks import check_experiment
from tuner.experiment.extends import locate_problems
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment, read_tree
from tuner.experiment.splitting import split_sections
from tuner.experiment.tree import PATHS, flatten
from tuner.messages.redaction import without_credentials

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"

CHECKED_ON_CLUSTER = ("data.root", "data.file", "backbone.checkpoint", "tracking.uri")
"""Keys of what only the cluster needs to have; `deploy.preflight` checks them there."""

NO_SECRETS = (
    "no password or token (everyone who reaches the cluster can read job records; set MLFLOW_TRACKING_URI, or "
    "MLFLOW_TRACKING_USERNAME and _PASSWORD, in the environment of its nodes)"
)


@dataclass(frozen=True)
class PreparedExperiment:
    """An experiment as it is sent. `environment` are variables of the job, which others can read; `text` is the
    YAML."""

    space: SearchExperiment
    environment: dict[str, str]
    text: str

    @property
    def tracking(self) -> str:
        """The MLflow address that the job is given; empty for that of its nodes."""
        return self.environment.get(TRACKING_VARIABLE, "")


def prepare(file: Path, overrides: Mapping[str, Any]) -> PreparedExperiment:
    """Reads and checks the experiment as `tuner.search` does.

    Raises:
        BadInput: with all its mistakes, and every value that is valid on this machine alone.
    """
    with locate_problems(file, overrides):
        tree = read_tree(file, overrides)
        space = parse_experiment(tree, str(file))
        uri = space.tracking.uri or os.environ.get(TRACKING_VARIABLE)
        problems = [*_relative_paths(tree), *_secrets(tree), *_tracking_problems(uri), *_problems_here(space)]
        if problems:
            raise BadInput(dict.fromkeys(problems)).in_file(str(file))
    tree["tracking"] = {key: value for key, value in (tree.get("tracking") or {}).items() if key != "uri"}
    environment = {TRACKING_VARIABLE: uri} if uri else {}
    if plugins := sent_plugins():
        environment |= {VARIABLE: ":".join(plugins)}  # relative to the unpacked archive, in which the job starts
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return PreparedExperiment(space, environment, text)


def _relative_paths(tree: Mapping[str, Any]) -> Iterator[Problem]:
    leaves = {"tracking.directory": (tree.get("tracking") or {}).get("directory")}
    for section, keys in PATHS.items():
        leaves |= {f"{section}.{key}": (tree.get(section) or {}).get(key) for key in keys}
    for each in split_sections(tree, PATHS).branches.alternatives.values():
        for label, fixed in each.fixed.items():
            place = each.place_of(label)
            leaves |= {f"{place}.{key}": fixed.get(f"{each.path}.{key}") for key in PATHS[each.path]}
    for where, value in leaves.items():
        if isinstance(value, str) and not is_absolute(value):
            yield Problem(where, ABSOLUTE_PATH, repr(value))


def _secrets(tree: Mapping[str, Any]) -> Iterator[Problem]:
    for where, value in flatten(tree).items():
        text = str(value)
        if (shown := without_credentials(text)) != text:
            yield Problem(where, NO_SECRETS, shown)


def _tracking_problems(uri: str | None) -> Iterator[Problem]:
    if uri is None:
        return  # the cluster's nodes may have an address
    if (shown := without_credentials(uri)) != uri:
        yield Problem("tracking.uri", NO_SECRETS, shown)
    elif "://" not in uri or (uri.startswith("sqlite:") and not uri.startswith("sqlite:////")):
        expected = "a server that the cluster reaches (http://mlflow:5000), or a file's absolute path (sqlite:////…)"
        yield Problem("tracking.uri", expected, uri)


def _problems_here(space: SearchExperiment) -> list[Problem]:
    """The problems that `tuner.search` would report, but for those that depend on the machine."""
    try:
        check_experiment(space)
    except BadInput as bad:
        return [problem for problem in bad.problems if beside_alternatives(problem.where) not in CHECKED_ON_CLUSTER]
    return []
