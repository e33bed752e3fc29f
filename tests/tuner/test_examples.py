"""The examples in docstrings of `tuner` print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [file for file in sorted((ROOT / "tuner").rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
"""Found by their text, as the import of every module would take seconds."""


@pytest.mark.parametrize("name", [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES])
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_each_room_with_examples_is_found() -> None:
    rooms = {file.parent.name for file in FILES}
    assert {"cli", "comparison", "experiment", "messages", "record", "resources", "scheduling"} <= rooms
