from __future__ import annotations

import copy
import errno
import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import add_trial, events_in, fold
from tuner.record.events import Event, read_events
from tuner.record.history import History, trial_id
from tuner.record.journal import Journal


def filled(directory: Path) -> Journal:
    journal = Journal(directory)
    journal.append("search_started", name="tiny", run="now")
    add_trial(journal, 0, [0.5, 0.7])
    add_trial(journal, 1, [0.9], "pruned", "no better")
    add_trial(journal, 2, [0.4], "failed", "diverged")
    add_trial(journal, 3, [0.3], "running")
    return journal


def test_what_is_read_back_is_what_was_known(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.append("retrain_finished", trial=0, seed=1, test_top1=0.5, duration_s=1.0)
    journal.append("model_registered", trial=0, uri="models:/x@champion")
    journal.append("search_finished", why="done")
    journal.close()
    assert Journal(tmp_path).history == journal.history


def test_every_event_is_on_the_disk_before_anybody_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    journal = Journal(tmp_path)
    heard: list[tuple[Event, Event, int]] = []
    journal.listeners.append(
        lambda event, history: heard.append((event, events_in(journal.path)[-1], journal.path.stat().st_size))
    )
    journal.append("search_started", name="tiny")
    add_trial(journal, 0, [0.5])
    assert [event for event, _, _ in heard] == [written for _, written, _ in heard] == events_in(journal.path)
    assert synced == [size for _, _, size in heard]


def test_listeners_get_the_history_with_the_event(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    running: list[int] = []
    journal.listeners.append(lambda event, history: running.append(history.count("running")))
    add_trial(journal, 0, [0.5])
    assert running == [1, 1, 0]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_dropped_and_the_next_is_whole(tmp_path: Path, cut: int) -> None:
    journal = filled(tmp_path)
    journal.close()
    whole = events_in(journal.path)
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-cut])
    assert list(read_events(journal.path)) == whole[:-1]
    resumed = Journal(tmp_path)
    assert resumed.history.trials[3].folds == []
    resumed.append("search_finished", why="done")
    *kept, last = events_in(journal.path)
    assert kept == whole[:-1]
    assert last["event"] == "search_finished"


def test_a_broken_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    lines = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text("".join([lines[0], '{"event": "trial_st\n', *lines[2:]]))
    with pytest.raises(json.JSONDecodeError):
        list(read_events(journal.path))


def test_a_journal_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "none.jsonl")) == []


def test_only_a_complete_trial_has_a_score(tmp_path: Path) -> None:
    trials = filled(tmp_path).history.trials
    assert [trials[number].val_top1 for number in range(4)] == [pytest.approx(0.6), None, None, None]
    assert [trials[number].state for number in range(4)] == ["complete", "pruned", "failed", "running"]
    assert trials[1].reason == "no better"


def test_a_resumed_search_is_not_finished(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.append("search_finished", why="interrupted")
    first = journal.history.started
    journal.append("search_started", name="tiny", run="now")
    assert journal.history.finished is None
    assert journal.history.started is first


def test_retrainings_belong_to_their_trial() -> None:
    history = History()
    for trial, seed in [(0, 0), (0, 1), (2, 0)]:
        history.apply({"event": "retrain_finished", "time_s": 0.0, "trial": trial, "seed": seed, "test_top1": 0.5})
    assert list(history.retrainings(2)) == [0]
    assert list(history.retrainings(0)) == [1]


def test_trial_ids_sort_as_numbers() -> None:
    assert trial_id(7) == "trial-0007"
    assert sorted([trial_id(10), trial_id(9)]) == [trial_id(9), trial_id(10)]


def test_what_a_trial_has_come_to_is_its_own() -> None:
    history = History()
    history.apply({"event": "retrain_failed", "time_s": 0.0, "trial": 2, "seed": 0, "reason": "diverged"})
    history.apply({"event": "model_registered", "time_s": 0.0, "trial": 2, "uri": "models:/x@champion"})
    assert list(history.failed_retrainings(2)) == [0]
    assert history.failed_retrainings(1) == {}
    assert (history.model_uri(2), history.model_uri(1)) == ("models:/x@champion", None)


@pytest.mark.parametrize("fits", [0, 10, 10_000])
def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
    """Whether it refuses the line, takes a part of it, or takes it and cannot keep it."""
    journal = filled(tmp_path)
    before, history = journal.path.read_bytes(), copy.deepcopy(journal.history)

    class FullDisk(FileIO):
        room = fits

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(data[: self.room])
            self.room -= written
            return written

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    healthy = journal._file
    with monkeypatch.context() as full, FullDisk(journal.path, "ab") as disk:
        full.setattr(os, "fsync", refuse)
        journal._file = disk
        with pytest.raises(OSError, match=rf"No space left on device: '{journal.path}'"):
            journal.append("fold_finished", trial=0, result=fold(3, 0.5))
    assert journal.path.read_bytes() == before
    assert journal.history == history
    journal._file = healthy
    journal.append("search_finished", why="disk full")
    assert list(read_events(journal.path))[-1]["why"] == "disk full"
