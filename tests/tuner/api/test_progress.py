"""What a notebook shows while a search runs, without a notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.tuner.tiny import add_trial, search_journal, space_of
from tuner.api.progress import publish_changes, search_display


def test_every_event_is_published_with_the_latest_lines(tmp_path: Path) -> None:
    pages: list[str] = []
    journal = search_journal(tmp_path)
    with search_display(space_of(), num_trials=6, show=False) as display:
        publish_changes(display, pages.append)
        journal.listeners.append(display)
        display.enter_phase("searching")
        add_trial(journal, 0, [0.5, 0.75])
    assert len(pages) >= 3
    assert "val top-1 0.6250" in pages[-1]
    assert "gamma_fe=0.05" in pages[-1]  # the short name, as a person reads it
    assert pages[-1].startswith("<pre")


def test_what_a_name_holds_is_escaped(tmp_path: Path) -> None:
    pages: list[str] = []
    with search_display(space_of(), num_trials=6, show=False) as display:
        publish_changes(display, pages.append)
        display.say("<script>[bold]")
    assert "&lt;script&gt;[bold]" in pages[-1]


def test_nothing_is_printed_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with search_display(space_of(), num_trials=6, show=False) as display:
        display.say("hello")
    assert capsys.readouterr() == ("", "")


def test_outside_of_a_notebook_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with search_display(space_of(), num_trials=6, show=True) as display:
        display.say("hello")
    assert capsys.readouterr().out == "[0:00] hello\n"


def test_in_a_notebook_one_output_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """With IPython's own names: `display(…, display_id=True)` gives a handle whose `update` replaces the output."""
    updates: list[object] = []
    shell = type("ZMQInteractiveShell", (), {})()
    handle = SimpleNamespace(update=updates.append)
    ipython, display_module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display_module.HTML = str  # type: ignore[attr-defined]
    display_module.display = lambda html, display_id: handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display_module)
    with search_display(space_of(), num_trials=6, show=True) as display:
        display.say("hello")
    assert "hello" in str(updates[-1])
