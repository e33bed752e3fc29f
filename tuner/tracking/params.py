"""Params of the runs in MLflow, computed from the events: what was searched, and what was fixed.

A dimension goes by its short name, as a person looks for it in the UI; a leaf of the configuration by its dotted path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuner.experiment.splitting import split_sections
from tuner.experiment.tree import short_names
from tuner.record.events import Params, SearchStarted

TRIAL_SECTIONS = ("data", "backbone", "method", "training")
"""Sections of an experiment of which a TrialConfig consists; its only other leaf is `seed`."""


def search_params(started: SearchStarted) -> dict[str, Any]:
    """Params of a search: each dimension in words, by short name, and each fixed leaf."""
    return {**by_short_name(started, started.dimensions), **_leaves(started, {})}


def trial_params(started: SearchStarted, params: Params) -> dict[str, Any]:
    """Params of a trial: its point by short names, and each leaf of its TrialConfig. A dimension of an alternative that
    the trial did not choose is in neither.

    Args:
        started: the search that the trial belongs to.
        params: value of each dimension of the trial, by key.
    """
    seed = started.space.get("search", {}).get("seed", 0)
    return {**by_short_name(started, params), **_leaves(started, params), "seed": seed}


def config_leaves(params: Mapping[str, str]) -> dict[str, Any]:
    """Reads the leaves of a TrialConfig, by dotted path, back from the params of a trial in MLflow.

    >>> config_leaves({"method": "mixup", "method.mixup.alpha": "0.2", "method.alpha": "0.2", "seed": "0"})
    {'method.alpha': 0.2, 'seed': 0}
    """
    chosen = tuple(f"{section}.{params[section]}" for section in TRIAL_SECTIONS if section in params)
    below = tuple(f"{key}." for key in chosen)  # names of dimensions within the alternatives that were chosen
    return {
        key: from_text(text)
        for key, text in params.items()
        if key == "seed" or ("." in key and key not in chosen and not key.startswith(below))
    }


def by_short_name(started: SearchStarted, values: Params) -> dict[str, Any]:
    """Values of dimensions keyed by short name instead of dotted path.

    A dimension's short name depends on which others the search has: of two that end alike, each keeps its whole path.
    """
    names = short_names(started.dimensions)
    return {names.get(path, path): value for path, value in values.items()}


def as_text(value: Any) -> str:
    """Writes a param as MLflow shows it: text unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def from_text(text: str) -> Any:
    """Reads what `as_text` wrote. A text that is JSON by itself, such as `"1"`, is read as what it says."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _leaves(started: SearchStarted, params: Params) -> dict[str, Any]:
    return split_sections(started.space, TRIAL_SECTIONS).leaves(params)
