"""Tiny tensors gain nothing from threads; exact formulas are compared in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainables.tiny import tiny_network
from tests.trainables.tiny_trials import coloured_images
from trainables import trial
from trainables.backbones.config import BackboneConfig
from trainables.backbones.kept_networks import poured
from trainables.backbones.network import TransferNetwork
from trainables.data.images import LabelledImages
from trainables.probe import ProbeCache


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float64() -> Iterator[None]:
    """Networks, labels and draws of the test are in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Replaces networks by tiny ones with equal pre-trained weights; lists which were built with a source head."""
    kept: list[bool] = []

    def build(
        config: BackboneConfig, num_classes: int, seed: int, keep_source_head: bool, into: TransferNetwork | None = None
    ) -> TransferNetwork:
        kept.append(keep_source_head)
        pretrained = tiny_network(source_head=keep_source_head, dropout=0.1)
        fresh = TransferNetwork(pretrained.backbone, pretrained.source_head, num_classes, seed)
        if into is None:
            return fresh
        assert all(poured(part, into.get_submodule(name)) for name, part in fresh.named_children())
        return into.train()

    monkeypatch.setattr(trial, "build_network", build)
    return kept


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> ProbeCache:
    """The probes of one test alone."""
    cache = ProbeCache(max_bytes=10**6)
    monkeypatch.setattr(trial, "PROBES", cache)
    return cache


@pytest.fixture
def images() -> LabelledImages:
    """Thirty noisy images, stored at 10×10, with a colour for each class."""
    return coloured_images()


@pytest.fixture
def nothing_compiled_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither in this process nor on the disk."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def traced_only() -> Iterator[None]:
    """All of torch.compile but the code generation, which takes its time."""
    with torch.compiler.set_stance("default", force_backend="aot_eager"):
        yield
