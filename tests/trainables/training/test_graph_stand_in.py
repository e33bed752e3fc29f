"""The stand-in for CUDA graphs: what it refuses does not depend on what else lies in the process."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from tests.trainables.training.tape import Tape, address_of


def test_it_records_without_an_effect() -> None:
    x, total = torch.ones(3), torch.zeros(3)

    def operations() -> None:
        total.add_(x * torch.rand(3))

    replay = Tape().record(operations)
    assert total.tolist() == [0, 0, 0]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    replay()
    assert torch.equal(total, expected)


def test_no_tensor_of_the_host_lies_where_another_was_released() -> None:
    """It would pass for the other one."""
    released = [torch.tensor(2.0) for _ in range(100)]

    def operations() -> None:
        addresses = {address_of(tensor) for tensor in released}
        released.clear()
        with _disable_current_modes():
            brought = [torch.tensor(2.0) for _ in range(100)]
        assert not addresses & {address_of(tensor) for tensor in brought}
        brought[0].add_(1)

    with pytest.raises(RuntimeError, match="takes a tensor from the host"):
        Tape().record(operations)


def test_it_passes_over_tensors_without_a_storage() -> None:
    """Other tests leave some: `torch.compile` keeps weights in the layout of MKL-DNN."""
    elsewhere, total = torch.ones(2).to_mkldnn(), torch.zeros(2)

    def operations() -> None:
        total.add_(1)

    Tape().record(operations)()
    assert total.tolist() == [1, 1]
    assert elsewhere.is_mkldnn
