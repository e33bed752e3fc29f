from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainables.tiny import TinyConv


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_embedding_is_normalising_to_the_bit(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    backbone = TinyConv()
    images = torch.randint(0, 256, (4, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(dtype)
    images = images.contiguous(memory_format=memory_format)
    embedded = backbone.embed(images)
    expected = (images - backbone.mean_C11) / backbone.std_C11
    assert torch.equal(embedded, expected)
    assert (embedded.dtype, embedded.stride()) == (expected.dtype, expected.stride())


def test_embedding_passes_gradients() -> None:
    def gradient(images: Tensor) -> Tensor:
        images.requires_grad_()
        TinyConv().embed(images).sum().backward()
        assert images.grad is not None
        return images.grad

    rows = torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(gradient(rows), gradient(torch.ones(2, 3, 4, 4)))
