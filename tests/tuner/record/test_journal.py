from __future__ import annotations

import copy
import errno
import os
import shutil
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import add_trial, events_in, fold, search_journal, search_started
from trainables.errors import BadInput
from trainables.results import RetrainResult
from tuner.record.directory import RunDirectory
from tuner.record.events import Event, FoldFinished, ModelRegistered, RetrainingFinished, SearchEnded
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.record.lines import encode, read_events

ENDED = SearchEnded(outcome="finished", why="done")


def filled(directory: Path) -> SearchJournal:
    journal = search_journal(directory)
    journal.append(search_started(run="now"))
    add_trial(journal, 0, [0.5, 0.7])
    add_trial(journal, 1, [0.9], "pruned", "no better")
    add_trial(journal, 2, [0.4], "failed", "diverged")
    add_trial(journal, 3, [0.3], "running")
    return journal


def test_what_is_read_back_is_what_was_known(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.append(RetrainingFinished(trial=0, result=RetrainResult(1, 0.5, 1.0, [10], {"loss": [0.1]})))
    journal.append(ModelRegistered(trial=0, uri="models:/x@champion"))
    journal.append(ENDED)
    journal.close()
    assert search_journal(tmp_path).history == journal.history


def test_every_event_is_on_the_disk_before_a_listener_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    journal = search_journal(tmp_path)
    heard: list[tuple[Event, Event, int]] = []
    journal.listeners.append(
        lambda event, history: heard.append((event, list(read_events(journal.path))[-1], journal.path.stat().st_size))
    )
    journal.append(search_started())
    add_trial(journal, 0, [0.5])
    assert [event for event, _, _ in heard] == [written for _, written, _ in heard] == list(read_events(journal.path))
    assert synced == [size for _, _, size in heard]


def test_listeners_get_the_history_with_the_event(tmp_path: Path) -> None:
    journal = search_journal(tmp_path)
    running: list[int] = []
    journal.listeners.append(lambda event, history: running.append(history.count("running")))
    add_trial(journal, 0, [0.5])
    assert running == [1, 1, 0]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_dropped_and_the_next_is_whole(tmp_path: Path, cut: int) -> None:
    journal = filled(tmp_path)
    journal.close()
    whole = list(read_events(journal.path))
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-cut])
    assert list(read_events(journal.path)) == whole[:-1]
    resumed = search_journal(tmp_path)
    assert resumed.history.trials[3].folds == []
    resumed.append(ENDED)
    assert list(read_events(journal.path)) == [*whole[:-1], ENDED]


def test_a_first_line_that_was_torn_is_written_anew(tmp_path: Path) -> None:
    RunDirectory(tmp_path).journal.write_text('{"event":"jour')
    journal = search_journal(tmp_path)
    journal.append(ENDED)
    assert journal.path.read_text().startswith('{"event":"journal","format":1}\n')
    assert list(read_events(journal.path)) == [ENDED]


def test_a_journal_of_another_format_is_not_appended_to(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    other = journal.path.read_bytes().replace(b'"format":1', b'"format":0', 1)
    journal.path.write_bytes(other)
    with pytest.raises(BadInput, match="expected a journal of format 1, got format 0"):
        open_search_journal(journal.directory)
    assert journal.path.read_bytes() == other


def test_retrainings_belong_to_their_trial(tmp_path: Path) -> None:
    journal = search_journal(tmp_path)
    for trial, seed in [(0, 0), (0, 1), (2, 0)]:
        journal.append(RetrainingFinished(trial=trial, result=RetrainResult(seed, 0.5, 1.0, [], {})))
    assert list(journal.history.retrainings(2)) == [0]
    assert list(journal.history.retrainings(0)) == [1]


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
            journal.append(FoldFinished(trial=0, result=fold(3, 0.5)))
    assert journal.path.read_bytes() == before
    assert journal.history == history
    journal._file = healthy
    journal.append(SearchEnded(outcome="failed", why="disk full"))
    assert events_in(journal.path)[-1]["why"] == "disk full"


def test_a_line_is_what_the_event_says(tmp_path: Path) -> None:
    journal = search_journal(tmp_path)
    journal.append(ENDED)
    assert journal.path.read_bytes().endswith(encode(ENDED))


def removed(directory: Path) -> None:
    shutil.rmtree(directory)


def removed_and_made_anew(directory: Path) -> None:
    """As by a worker, which makes the folders of its checkpoint."""
    shutil.rmtree(directory)
    directory.mkdir()
    RunDirectory(directory).journal.touch()


def moved(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


@pytest.mark.parametrize("happens", [removed, removed_and_made_anew, moved])
def test_an_append_into_nothing_is_an_error(happens: Callable[[Path], None], tmp_path: Path) -> None:
    journal = filled(tmp_path / "run")
    history = copy.deepcopy(journal.history)
    happens(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=rf"removed or replaced .*: '{journal.path}'"):
        journal.append(FoldFinished(trial=3, result=fold(2, 0.5)))
    assert journal.history == history
    journal.close()
