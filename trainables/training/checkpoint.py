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
from pathlib import Path
from typing import Any

import torch

from trainables.files import write_whole

logger = logging.getLogger(__name__)

MAGIC = b"training checkpoint 3\n"
"""First line of a checkpoint. The number increases when the form of the state of `Training` changes."""

DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoint of one training in the file `path`, written every `period_s` seconds of wall-clock time.

    A thread writes it: the training only waits for a copy of its tensors, on their device.
    """

    def __init__(self, path: Path, period_s: float) -> None:
        self.path = path
        self.period_s = period_s
        self._written_s = time.monotonic()
        self._refused = False
        self._writer: threading.Thread | None = None

    def due(self) -> bool:
        """Whether a period has passed since the latest write, which is over. Cheap enough for every step."""
        if time.monotonic() - self._written_s < self.period_s:
            return False
        return self._writer is None or not self._writer.is_alive()

    def pays(self, duration_s: float) -> bool:
        """Whether a training of so many seconds is checkpointed: one that ends within two periods is not."""
        return duration_s >= 2 * self.period_s

    def save(self, identity: str, state: dict[str, Any]) -> None:
        """Replaces the checkpoint, in the background. An error of the disk is logged once, and does not end the
        training."""
        self.wait()
        self._writer = threading.Thread(target=self._write, args=(identity, _copied(state)), daemon=True)
        self._written_s = time.monotonic()
        self._writer.start()

    def wait(self) -> None:
        """Waits until the latest checkpoint is written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write(self, identity: str, state: dict[str, Any]) -> None:
        try:
            write_whole(self.path, encoded(identity, state))
        except OSError as error:
            if not self._refused:
                logger.warning("no checkpoint can be written, training continues without: %s", error)
            self._refused = True

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


def _copied(value: Any) -> Any:
    """A copy of nested dictionaries, lists and tuples with copies of their tensors, on the same devices."""
    match value:
        case torch.Tensor():
            return value.detach().clone()
        case dict():
            return {key: _copied(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(_copied, value))
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
