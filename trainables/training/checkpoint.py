"""Checkpoints: the state of a training on disk, from which an interrupted training resumes.

A checkpoint is written atomically, with a checksum and the identity of its training. One that is torn, corrupt or of
another training is logged and skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import time
from pathlib import Path
from typing import Any

import torch

from trainables.files import write_whole

logger = logging.getLogger(__name__)

MAGIC = b"training checkpoint 2\n"
"""First line of a checkpoint. The number increases when the form of the state of `Training` changes."""

DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoint of one training in the file `path`, written every `period_s` seconds of wall-clock time."""

    def __init__(self, path: Path, period_s: float) -> None:
        self.path = path
        self.period_s = period_s
        self._written_s = time.monotonic()
        self._refused = False

    def due(self) -> bool:
        """Whether a period has passed since the latest attempt to write. Cheap enough for every step."""
        return time.monotonic() - self._written_s >= self.period_s

    def save(self, identity: str, state: dict[str, Any]) -> None:
        """Replaces the checkpoint. An error of the disk is logged once, and does not end the training."""
        try:
            write_whole(self.path, encoded(identity, state))
        except OSError as error:
            if not self._refused:
                logger.warning("no checkpoint can be written, training continues without: %s", error)
            self._refused = True
        self._written_s = time.monotonic()

    def load(self, identity: str) -> dict[str, Any] | None:
        """The state of the training with this identity; None if there is no valid one."""
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
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


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
