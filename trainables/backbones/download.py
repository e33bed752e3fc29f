"""Published weights: cached files, downloads, and a quick error without a network."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

import huggingface_hub
import torch

from trainables.errors import BadInput, Problem, first_line

TIMEOUT_S = 10.0
"""Longest time without an answer of a server, in seconds."""


def torch_cache() -> Path:
    """Folder of the files downloaded by torchvision, and by timm for weights outside the hub."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def torch_cached(url: str) -> Path:
    """Path of the cached weights of `url`; it need not exist."""
    return torch_cache() / Path(urlparse(url).path).name


def touch(url: str) -> None:
    """Opens `url` without reading it. Raises OSError if it cannot be reached."""
    with urlopen(url, timeout=TIMEOUT_S):
        pass


@contextmanager
def downloading(cache: Path) -> Iterator[None]:
    """Sets `TIMEOUT_S` for connections inside the block, and turns any error of a download into BadInput."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    except BadInput:
        raise
    # The download libraries raise the errors of their transport layers, without a common base.
    except Exception as error:
        expected = f"weights that can be downloaded or lie in {cache} (or a file as backbone.checkpoint)"
        raise BadInput(Problem("name", expected, first_line(error))) from error
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Where `file` is not there yet, holds other processes until the block has downloaded it, and is held by them.

    The trials of a machine begin at the same moment, and those of a cluster may share the folder: each would download
    the same weights. On a file system without locks they do.
    """
    with ExitStack() as stack:
        if not file.exists():
            with suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((file.parent / ".downloading").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class HubFile:
    """A file in a repository of the Hugging Face hub; without `filename`, the weights under their two usual names."""

    def __init__(self, repository: str, filename: str | None) -> None:
        self.repository, _, revision = repository.partition("@")
        self.revision = revision or None
        self.filenames = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
        self.cache = Path(huggingface_hub.constants.HF_HUB_CACHE)

    def cached(self) -> Path | None:
        for filename in self.filenames:
            found = huggingface_hub.try_to_load_from_cache(
                self.repository, filename, revision=self.revision, cache_dir=self.cache
            )
            if isinstance(found, str):
                return Path(found)
        return None

    def touch(self) -> None:
        url = huggingface_hub.hf_hub_url(self.repository, self.filenames[0], revision=self.revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT_S)

    def fetch(self) -> Path:
        """Path of the file, downloaded under the first of its names if it is not cached."""
        cached = self.cached()
        if cached is not None:
            return cached
        self.touch()  # fails at once, whereas the download retries for minutes
        file = huggingface_hub.hf_hub_download(
            self.repository, self.filenames[0], revision=self.revision, cache_dir=self.cache
        )
        return Path(file)
