"""Published weights are used where they are cached or can be downloaded; where neither, the user hears it quickly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

import torch

from trainables.errors import BadInput, Problem

TIMEOUT_S = 10.0
"""How long a server may stay silent."""


def torch_cache() -> Path:
    """Where torchvision, and timm for weights outside the hub, keep downloaded files."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def torch_cached(url: str) -> Path:
    """The file that the weights at `url` are cached in; it need not exist."""
    return torch_cache() / Path(urlparse(url).path).name


def touch(url: str) -> None:
    """Opens `url` without reading it. Raises OSError where it cannot be reached."""
    with urlopen(url, timeout=TIMEOUT_S):
        pass


@contextmanager
def downloading(cache: Path) -> Iterator[None]:
    """Limits how long a server may stay silent, and says any failure to get weights as the user's problem."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    except BadInput:
        raise
    # The download libraries raise the errors of whichever transport they are built on.
    except Exception as error:
        must_hold = f"weights can be downloaded, or lie in {cache}; or give backbone.checkpoint"
        raise BadInput(Problem("name", must_hold, reason(error))) from error
    finally:
        socket.setdefaulttimeout(before)


def reason(error: BaseException, length: int = 200) -> str:
    """The first line of an error's message, or its type where there is none."""
    first_line = next(iter(str(error).strip().splitlines()), "").strip()
    return f"{type(error).__name__}: {first_line[:length]}" if first_line else type(error).__name__
