"""The examples in docstrings of `tuner.experiment` and `tuner.messages` give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = (
    "tuner.experiment.dimensions",
    "tuner.experiment.extends",
    "tuner.experiment.points",
    "tuner.experiment.search_experiment",
    "tuner.experiment.strict_yaml",
    "tuner.experiment.tree",
    "tuner.messages.redaction",
    "tuner.messages.validation",
    "tuner.messages.wording",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
