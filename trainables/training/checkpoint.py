"""Checkpoints: the state of a training on disk, from which an interrupted training resumes.

A checkpoint is written atomically, with a checksum and the identity of its training. One that is torn, corrupt or of
another training is logged and skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainables.files import write_whole

logger = logging.getLogger(__name__)

MAGIC = b"training checkpoint 3\n"
"""First line of a checkpoint. The number increases when the form of the state of `Training` changes."""

DIGEST_BYTES = hashlib.sha256().digest_size


SHARE_OF_TIME = 0.01
"""Share of a training's time that its checkpoints may cost."""


class Checkpoints:
    """The checkpoint of one training in the file `path`, written every `period_s` seconds of wall-clock time, or less
    often where that would cost more than `SHARE_OF_TIME`.

    A thread writes it: the training only waits for a copy of its tensors, on their device. The thread's processor time
    counts all the same, as a trial may have one core; its waits for the disk do not.
    """

    def __init__(self, path: Path, period_s: float) -> None:
        self.path = path
        self.period_s = period_s
        self._cost_s = 0.0
        self._written_s = time.monotonic()
        self._refused = False
        self._writer: threading.Thread | None = None
        self._stream: torch.cuda.Stream | None = None
        """Stream of the copies from a GPU to the host. One for all: torch hands out 32 in turn, also for recordings."""

    @property
    def next_after_s(self) -> float:
        """Seconds from the latest write to the next: the period, or longer by what that write cost."""
        return max(self.period_s, self._cost_s / SHARE_OF_TIME) if self.period_s else 0.0

    def due(self) -> bool:
        """Whether a period has passed since the latest write, which is over. Cheap enough for every step."""
        if time.monotonic() - self._written_s < self.next_after_s:
            return False
        return self._writer is None or not self._writer.is_alive()

    def pays(self, duration_s: float) -> bool:
        """Whether a training of so many seconds is checkpointed: one that ends within two periods is not."""
        return duration_s >= 2 * self.period_s

    def save(self, identity: str, state: dict[str, Any]) -> None:
        """Replaces the checkpoint, in the background. An error of the disk is logged once, and does not end the
        training."""
        self.wait()
        self._written_s = time.monotonic()
        copy = _mapped(state, lambda tensor: tensor.detach().clone())
        copied = None
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # A thread sleeps on an event that is blocking; it polls others, which takes processor time.
            copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            copied.record()
            self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._cost_s = time.monotonic() - self._written_s
        self._writer = threading.Thread(target=self._write, args=(identity, copy, copied), daemon=True)
        self._writer.start()

    def wait(self) -> None:
        """Waits until the latest checkpoint is written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write(self, identity: str, state: dict[str, Any], copied: torch.cuda.Event | None) -> None:
        if copied is not None:
            # Before torch.save, which would copy each tensor itself: on the stream of the training, behind all that is
            # queued there, with Python's lock, so that the training queues nothing meanwhile.
            copied.synchronize()
            with torch.cuda.stream(self._stream):
                state = _mapped(state, torch.Tensor.cpu)
        try:
            content = encoded(identity, state)
            try:
                write_whole(self.path, content)
            except FileNotFoundError:  # another fold, discarding its own, has removed the folder before it had a file
                write_whole(self.path, content)
        except OSError as error:
            if not self._refused:
                logger.warning("no checkpoint can be written, training continues without: %s", error)
            self._refused = True
        self._cost_s += time.thread_time()  # of this thread, which does nothing else

    def load(self, identity: str) -> dict[str, Any] | None:
        """The state of the training with this identity; None if there is no valid one."""
        self.wait()
        try:
            state = decoded(self.path.read_bytes(), identity)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("%s is skipped, training starts anew: %s", self.path, error)
            return None
        logger.info("training goes on from %s", self.path)
        return state

    def discard(self) -> None:
        """Removes the checkpoint, and its folder if it is then empty."""
        self.wait()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


def _mapped(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A copy of nested dictionaries, lists and tuples with the results of `function` in place of their tensors."""
    match value:
        case torch.Tensor():
            return function(value)
        case dict():
            return {key: _mapped(each, function) for key, each in value.items()}
        case list() | tuple():
            return type(value)(_mapped(each, function) for each in value)
        case _:
            return value


def encoded(identity: str, state: dict[str, Any]) -> bytes:
    """Content of a checkpoint: magic, SHA-256 of the payload, and the payload of `torch.save`."""
    file = io.BytesIO()
    torch.save({"identity": identity, "state": state}, file)
    payload = file.getbuffer()
    return b"".join((MAGIC, hashlib.sha256(payload).digest(), payload))


def decoded(content: bytes, identity: str) -> dict[str, Any]:
    """The state in the content of a checkpoint, on the host. Raises ValueError if it is not valid for `identity`."""
    digest, payload = content[len(MAGIC) :][:DIGEST_BYTES], memoryview(content)[len(MAGIC) + DIGEST_BYTES :]
    if not content.startswith(MAGIC):
        raise ValueError("not a checkpoint of this version")
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("torn or corrupt")
    kept = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if kept["identity"] != identity:
        raise ValueError("of another training")
    state: dict[str, Any] = kept["state"]
    return state
