"""The journal of a search that is about to begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.tiny import search_journal
from tuner.record.journal import SearchJournal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SearchJournal]:
    journal = search_journal(tmp_path)
    yield journal
    journal.close()
