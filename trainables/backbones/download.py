"""Published weights are used where they are cached or can be downloaded; where neither, the user hears it quickly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

import huggingface_hub
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
        expected = f"weights that can be downloaded or lie in {cache} (or a file as backbone.checkpoint)"
        raise BadInput(Problem("name", expected, reason(error))) from error
    finally:
        socket.setdefaulttimeout(before)


class HubFile:
    """Weights in a repository of the Hugging Face hub, where `filename` may be one of two conventional ones."""

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
        """The file, downloaded where it is not cached; the first name where there are two."""
        cached = self.cached()
        if cached is not None:
            return cached
        self.touch()  # fails at once where the download would try for minutes
        file = huggingface_hub.hf_hub_download(
            self.repository, self.filenames[0], revision=self.revision, cache_dir=self.cache
        )
        return Path(file)


def reason(error: BaseException, length: int = 200) -> str:
    """The first line of an error's message, or its type where there is none."""
    first_line = next(iter(str(error).strip().splitlines()), "").strip()
    return f"{type(error).__name__}: {first_line[:length]}" if first_line else type(error).__name__
