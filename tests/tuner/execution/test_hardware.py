"""What a run is recorded to train on, and the precisions that its first command decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tuner.tiny import events_in, search_journal
from tuner.execution.hardware import decided_precisions, record_hardware
from tuner.experiment.precision import Precisions
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.resources.share import Share

TURING = Share(1, 0.25, 8, devices=("Tesla T4",), precisions=Precisions(training="fp16"))
AMPERE = replace(TURING, devices=("NVIDIA A100",), precisions=Precisions(training="bf16", teacher="bf16"))
CPU = Share(1, 0, 8, devices=("AMD EPYC",))


@pytest.fixture
def journal(tmp_path: Path) -> SearchJournal:
    return search_journal(tmp_path)


def said(share: Share, journal: SearchJournal) -> list[str]:
    lines: list[str] = []
    observer: Any = SimpleNamespace(say=lines.append)
    record_hardware(share, journal, observer)
    return lines


def test_it_is_recorded_once(journal: SearchJournal) -> None:
    assert said(TURING, journal) == ["training on Tesla T4; precision auto is fp16"]
    said(TURING, journal)
    (event,) = events_in(journal.path)
    assert (event["event"], event["devices"]) == ("hardware_inspected", ["Tesla T4"])
    assert event["precisions"] == {"training": "fp16", "teacher": "fp32"}


def test_a_run_keeps_the_precisions_that_it_began_with(journal: SearchJournal) -> None:
    said(TURING, journal)
    resumed = open_search_journal(journal.directory)
    assert decided_precisions(AMPERE, resumed.history) == TURING.precisions
    lines = said(AMPERE, resumed)
    assert lines[-1] == "precision auto is fp16, as when this began; this hardware alone: bf16"
    first, second = events_in(journal.path)
    assert second["devices"] == ["NVIDIA A100"]
    assert second["precisions"] == first["precisions"]
    assert resumed.history.hardware is not None
    assert resumed.history.hardware.devices == AMPERE.devices


def test_of_the_cpu_nothing_is_said(journal: SearchJournal) -> None:
    assert said(CPU, journal) == []
    assert [event["devices"] for event in events_in(journal.path)] == [["AMD EPYC"]]
