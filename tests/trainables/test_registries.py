"""Names of the project and of plugins in one mapping."""

from __future__ import annotations

import pytest

from trainables import plugins, registries
from trainables.errors import BadInput
from trainables.plugins import Plugin
from trainables.registries import Registry


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Plugin]:
    """The plugins of the kind `measures`."""
    measures: dict[str, Plugin] = {}
    monkeypatch.setattr(registries, "found_plugins", lambda: {**plugins.NONE_FOUND, "measures": measures})
    return measures


def test_own_entries_come_first(found: dict[str, Plugin]) -> None:
    colours = Registry("measures", {"red": 1})
    found["blue"] = Plugin("measures", "blue", 2, "a.py")
    assert dict(colours) == {"red": 1, "blue": 2}
    assert len(colours) == 2
    assert "green" not in colours
    with pytest.raises(KeyError):
        colours["green"]


def test_an_own_name_is_not_replaced(found: dict[str, Plugin]) -> None:
    colours = Registry("measures", {"red": 1})
    found["red"] = Plugin("measures", "red", 2, "a.py")
    assert colours["red"] == 1
    with pytest.raises(BadInput, match=r"a\.py: expected a name that is free in measures, got 'red'"):
        list(colours)


def test_entries_can_be_set_and_removed(found: dict[str, Plugin]) -> None:
    colours = Registry("measures", {"red": 1})
    colours["blue"] = 2
    assert list(colours) == ["red", "blue"]
    del colours["blue"]
    assert list(colours) == ["red"]
