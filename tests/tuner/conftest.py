"""Tiny problems gain nothing from threads; tests may leave it to us to close their journals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tuner.record.directory import RunDirectory
from tuner.record.journal import Journal


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def journals_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[Journal[Any]] = []
    initialise = Journal.__init__

    def remembered(self: Journal[Any], directory: RunDirectory, history: Any) -> None:
        initialise(self, directory, history)
        opened.append(self)

    monkeypatch.setattr(Journal, "__init__", remembered)
    yield
    for journal in opened:
        journal.close()
