"""A training's state on disk, so that one that is cut off goes on where it was.

A checkpoint is whole or it is not there: it is written beside the old one and then renamed, and it carries a checksum
and the identity of its training. Whatever is torn, corrupt or of another training is said in the log and skipped.
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

MAGIC = b"training checkpoint 1\n"
"""How a checkpoint begins. The number counts up when what `Training` keeps, or a `state_dict`, changes its form."""

DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoints:
    """Where one training keeps its state, and how often: every `period_s` seconds of wall-clock time."""

    def __init__(self, path: Path, period_s: float) -> None:
        self.path = path
        self.period_s = period_s
        self._written_s = time.monotonic()
        self._refused = False

    def due(self) -> bool:
        """Whether a period has passed since the latest attempt to write. Cheap enough to be asked at every step."""
        return time.monotonic() - self._written_s >= self.period_s

    def save(self, identity: str, state: dict[str, Any]) -> None:
        """Puts `state` in the old one's place. A disk that will not take it ends no training: it is said once."""
        try:
            write_whole(self.path, encoded(identity, state))
        except OSError as error:
            if not self._refused:
                logger.warning("no checkpoint can be written, training goes on without: %s", error)
            self._refused = True
        self._written_s = time.monotonic()

    def load(self, identity: str) -> dict[str, Any] | None:
        """The latest state of the training of that identity; None where there is none that can be trusted."""
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
        """Removes the checkpoint, and its folder with the last one in it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


def encoded(identity: str, state: dict[str, Any]) -> bytes:
    """`state` as a checkpoint's content: magic, SHA-256, and what `torch.save` makes of it."""
    file = io.BytesIO()
    torch.save({"identity": identity, "state": state}, file)
    payload = file.getbuffer()
    return b"".join((MAGIC, hashlib.sha256(payload).digest(), payload))


def decoded(content: bytes, identity: str) -> dict[str, Any]:
    """The state in a checkpoint's content, on the host. Raises ValueError where it is not that training's, whole."""
    digest, payload = content[len(MAGIC) :][:DIGEST_BYTES], memoryview(content)[len(MAGIC) + DIGEST_BYTES :]
    if not content.startswith(MAGIC):
        raise ValueError("it is no checkpoint of this version")
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("it is torn or corrupt")
    kept = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if kept["identity"] != identity:
        raise ValueError("it is of another training")
    state: dict[str, Any] = kept["state"]
    return state
