from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.scale import EVENTS_PER_TRIAL, REQUESTS_PER_TRIAL, Load, main, most_gpus, needs
from tuner.record.events import read_events
from tuner.record.journal import Journal
from tuner.tracking import projection

FOLDS = 3


class CountingClient:
    """Stands in for MLflow's client; every call is a request."""

    requests = 0

    def __getattr__(self, name: str) -> Any:
        def request(*_: Any, **__: Any) -> Any:
            type(self).requests += 1
            return SimpleNamespace(info=SimpleNamespace(run_id=str(self.requests)))

        return request


def append_trial(journal: Journal, number: int) -> None:
    journal.append("trial_started", trial=number, params={"alpha": 0.2}, config={}, source="sampler", attrs={})
    for fold in range(1, FOLDS + 1):
        result = {"fold": fold, "val_top1": 0.5, "loss_steps": [1], "loss_terms": {"target": [0.1]}}
        journal.append("fold_finished", trial=number, result=result)
    journal.append("trial_finished", trial=number, state="complete", reason="")


def test_a_trial_costs_what_the_page_reckons_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "open_store", lambda *_: (CountingClient(), "1"))
    monkeypatch.setattr(projection, "runs_with", lambda *_, **__: iter(()))
    monkeypatch.setattr(CountingClient, "requests", 0)
    with closing(Journal(tmp_path)) as journal:
        carried = projection.Projection("http://mlflow", "scale", tmp_path)
        journal.append("search_started", run="r")
        # Trials take their time: by the next event, the last one has been carried over.
        journal.listeners.append(lambda event, history: carried.advance() and None)
        append_trial(journal, 0)
        before = CountingClient.requests
        append_trial(journal, 1)
        assert CountingClient.requests - before == REQUESTS_PER_TRIAL
    events = [event for event in read_events(journal.path) if event.get("trial") == 1]
    assert len(events) == EVENTS_PER_TRIAL


def test_ten_times_the_gpus_are_ten_times_the_work_for_the_one_driver() -> None:
    small, large = needs(10, Load()), needs(100, Load())
    for name in ("trials_at_once", "driver_busy", "mlflow_busy", "journal_mib_per_day"):
        assert getattr(large, name) == pytest.approx(10 * getattr(small, name))
    assert large.dataset_gib == small.dataset_gib


def test_at_its_most_gpus_a_thing_is_just_busy() -> None:
    load = Load(trial_s=60)
    limits = most_gpus(load)
    assert needs(limits["driver"], load).driver_busy <= 1 < needs(limits["driver"] + 1, load).driver_busy
    assert needs(limits["MLflow connection"], load).mlflow_busy <= 1


def test_the_page_has_the_table_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    page = Path("docs/scale.md").read_text()
    assert len(printed) > 10
    assert [line for line in printed if line not in page] == []
