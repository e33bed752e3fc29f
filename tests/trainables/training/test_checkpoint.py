from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from trainables import files
from trainables.files import atomic_file, write_whole
from trainables.training import checkpoint
from trainables.training.checkpoint import DIGEST_BYTES, MAGIC, Checkpoints, decoded, encoded

STATE: dict[str, Any] = {"step": 3, "weights": {"a": torch.arange(5.0)}, "curve": [0.5, 0.25], "none": None}
WHOLE = encoded("me", STATE)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(tmp_path / "checkpoints" / "trial-0000" / "fold-1.pt", period_s=0)
    yield checkpoints
    checkpoints.wait()  # what its thread logs would be in the log of another test


def logged(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = caplog.records
    return record.getMessage()


class TestComingBack:
    def test_a_state_as_it_was(self, kept: Checkpoints) -> None:
        kept.save("me", STATE)
        state = kept.load("me")
        assert state is not None
        assert torch.equal(state["weights"].pop("a"), torch.arange(5.0))
        assert state == {"step": 3, "weights": {}, "curve": [0.5, 0.25], "none": None}

    def test_the_latest(self, kept: Checkpoints) -> None:
        kept.save("me", {"step": 1})
        kept.save("me", {"step": 2})
        assert kept.load("me") == {"step": 2}, "loading waits for the writer"
        assert [path.name for path in kept.path.parent.iterdir()] == ["fold-1.pt"]

    def test_nothing_where_there_is_nothing(self, kept: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
        assert kept.load("me") is None
        assert caplog.records == []

    def test_nothing_after_it_was_discarded(self, kept: Checkpoints) -> None:
        kept.save("me", STATE)
        kept.discard()
        kept.discard()
        assert kept.load("me") is None
        assert not kept.path.parent.exists()

    def test_discarding_one_leaves_the_others(self, kept: Checkpoints) -> None:
        other = Checkpoints(kept.path.with_name("fold-2.pt"), 0)
        kept.save("me", STATE)
        other.save("me", STATE)
        kept.discard()
        assert other.load("me") is not None

    def test_one_whose_folder_another_fold_removes_before_it_has_a_file_is_written(
        self, kept: Checkpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Folds of a trial share a folder, which goes with the last checkpoint in it."""
        removed: list[Path] = []

        @contextlib.contextmanager
        def file_in_a_folder_that_goes(path: Path) -> Iterator[BinaryIO]:
            if not removed:
                path.parent.rmdir()
                removed.append(path.parent)
            with atomic_file(path) as file:
                yield file

        monkeypatch.setattr(files, "atomic_file", file_in_a_folder_that_goes)
        kept.save("me", STATE)
        assert kept.load("me") is not None
        assert removed == [kept.path.parent]


class TestWhatItMayCost:
    def test_a_checkpoint_that_costs_much_is_written_less_often(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = Checkpoints(tmp_path / "fold-1.pt", period_s=30)
        assert kept.next_after_s == 30
        monkeypatch.setattr(checkpoint.time, "thread_time", lambda: 2.0)
        kept.save("me", STATE)
        kept.wait()
        assert kept.next_after_s >= 200, "so that two seconds are a hundredth"
        kept._written_s -= 100
        assert not kept.due()

    def test_one_that_costs_little_is_written_every_period(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = Checkpoints(tmp_path / "fold-1.pt", period_s=3600)
        monkeypatch.setattr(checkpoint.time, "thread_time", lambda: 0.5)
        kept.save("me", STATE)
        kept.wait()
        assert kept.next_after_s == 3600


class TestWhatIsNotToBeTrusted:
    @pytest.mark.parametrize(
        "length", [0, 1, len(MAGIC) - 1, len(MAGIC), len(MAGIC) + DIGEST_BYTES, len(WHOLE) // 2, len(WHOLE) - 1]
    )
    def test_is_torn(self, kept: Checkpoints, caplog: pytest.LogCaptureFixture, length: int) -> None:
        write_whole(kept.path, WHOLE[:length])
        assert kept.load("me") is None
        reason = "torn or corrupt" if length >= len(MAGIC) else "not a checkpoint of this version"
        assert logged(caplog) == f"{kept.path} is skipped, training starts anew: {reason}"

    @pytest.mark.parametrize("place", [0, len(MAGIC), len(MAGIC) + DIGEST_BYTES, len(WHOLE) // 2, len(WHOLE) - 1])
    def test_has_a_flipped_bit(self, place: int) -> None:
        content = bytearray(WHOLE)
        content[place] ^= 1
        with pytest.raises(ValueError, match=r"not a checkpoint|torn or corrupt"):
            decoded(bytes(content), "me")

    def test_goes_on_after_its_end(self) -> None:
        with pytest.raises(ValueError, match="torn or corrupt"):
            decoded(WHOLE + b"\0", "me")

    def test_is_of_another_training(self, kept: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
        kept.save("me", STATE)
        assert kept.load("you") is None
        assert logged(caplog).endswith("of another training")

    def test_cannot_be_read(self, kept: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
        kept.path.mkdir(parents=True)
        assert kept.load("me") is None
        assert "is skipped" in logged(caplog)


class TestADiskThatIsFull:
    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files.os, "fsync", refuse)

    @pytest.mark.usefixtures("full")
    def test_is_said_once_and_ends_no_training(self, kept: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
        kept.save("me", STATE)
        kept.save("me", STATE)
        kept.wait()
        assert "training continues without: [Errno 28] No space left on device" in logged(caplog)

    @pytest.mark.usefixtures("full")
    def test_is_not_tried_again_before_a_period_has_passed(self, tmp_path: Path) -> None:
        kept = Checkpoints(tmp_path / "fold-1.pt", 60)
        kept._written_s -= 60
        assert kept.due()
        kept.save("me", STATE)
        kept.wait()
        assert not kept.due()


def test_one_is_due_once_a_period_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = Checkpoints(tmp_path / "fold-1.pt", 30)
    assert not kept.due()
    now = 130.0
    assert kept.due()
    kept.save("me", {})
    kept.wait()
    assert not kept.due()


def test_that_a_training_goes_on_is_said(kept: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    kept.save("me", STATE)
    with caplog.at_level(logging.INFO):
        kept.load("me")
    assert logged(caplog) == f"training goes on from {kept.path}"


class TestInTheBackground:
    def test_the_state_is_that_of_the_moment_of_saving(
        self, kept: Checkpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The training goes on, and changes its tensors in place, before the thread has written them."""
        may_write = threading.Event()

        def slow(identity: str, state: dict[str, Any]) -> bytes:
            may_write.wait(10)
            return encoded(identity, state)

        monkeypatch.setattr(checkpoint, "encoded", slow)
        weights = torch.zeros(3)
        kept.save("me", {"weights": [weights], "step": 1})
        assert not kept.due(), "a write is on its way"
        weights.add_(1)
        may_write.set()
        state = kept.load("me")
        assert state is not None
        assert torch.equal(state["weights"][0], torch.zeros(3))
        assert kept.due()

    def test_nothing_is_written_after_it_was_discarded(
        self, kept: Checkpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_write = threading.Event()
        monkeypatch.setattr(checkpoint, "encoded", lambda *given: may_write.wait(10) and encoded(*given))
        kept.save("me", STATE)
        threading.Timer(0.05, may_write.set).start()
        kept.discard()
        assert not kept.path.exists()


def test_of_a_gpu_tensors_are_on_the_host_before_they_are_encoded(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread sleeps until the device has copied them, and brings them to the host on a stream of its own."""
    calls: list[str] = []

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking, "so that a wait takes no processor time"

        def record(self) -> None:
            calls.append("record")

        def synchronize(self) -> None:
            assert threading.current_thread() is not threading.main_thread()
            calls.append("synchronize")

    @contextlib.contextmanager
    def on(stream: object) -> Iterator[None]:
        calls.append(str(stream))
        yield
        calls.append("back")

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (calls.append(name), function(*given))[1]

    streams = iter(("own stream",))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: next(streams))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.Tensor, "clone", noted("clone", torch.Tensor.clone))
    monkeypatch.setattr(torch.Tensor, "cpu", noted("cpu", torch.Tensor.cpu))
    monkeypatch.setattr(checkpoint, "encoded", noted("encoded", encoded))
    for _ in range(2):
        calls.clear()
        kept.save("me", STATE)
        kept.wait()
        assert calls == ["clone", "record", "synchronize", "own stream", "cpu", "back", "encoded"]
    state = kept.load("me")
    assert state is not None
    assert torch.equal(state["weights"]["a"], torch.arange(5.0))


def test_a_training_that_is_over_within_two_periods_is_not_checkpointed(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "fold-1.pt", period_s=30)
    assert [kept.pays(duration_s) for duration_s in (10, 59, 60, 600)] == [False, False, True, True]
