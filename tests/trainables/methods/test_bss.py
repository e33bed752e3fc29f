from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainables.methods import references
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods.bss import BSS, BSSConfig, smallest_squares

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("k", [1, 2, 6, 20])
@pytest.mark.parametrize("count", [4, 6, 9])
def test_loss_and_gradient_match_the_paper(k: int, count: int) -> None:
    """With fewer examples than features, as many, and more."""
    student, batch = tiny_network(source_head=False).train(), tiny_batch(count=count)
    ours = BSS(BSSConfig(eta=0.3, k=k), student, tiny_context()).loss(batch)
    assert_parity(ours, references.bss(student, batch, k), student, spectrum=0.3)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_all_singular_values_make_the_frobenius_norm(shape: tuple[int, int]) -> None:
    features = torch.randn(shape)
    assert_close(smallest_squares(features, 5), features.square().sum())


def test_it_grows_with_the_square_of_the_scale() -> None:
    features = torch.randn(5, 9)
    assert_close(smallest_squares(3 * features, 2), 9 * smallest_squares(features, 2))


def test_two_equal_rows_leave_nothing_to_shrink() -> None:
    features = torch.randn(5, 9)
    features[3] = features[1]
    features.requires_grad_()
    smallest = smallest_squares(features, 1)
    smallest.backward()
    assert_close(smallest, torch.zeros(()), rtol=0, atol=1e-13)
    assert_close(features.grad, torch.zeros(5, 9), rtol=0, atol=1e-12)


def test_equal_singular_values_have_a_finite_gradient() -> None:
    features = torch.eye(4, 7).requires_grad_()
    smallest_squares(features, 2).backward()
    assert_close(features.grad.norm(), torch.tensor(2 * 2**0.5))


def test_a_single_row_is_not_shrunk() -> None:
    features = torch.randn(1, 9, requires_grad=True)
    alone = smallest_squares(features, 1)
    alone.backward()
    assert alone == 0
    assert not features.grad.any()


def test_single_precision_is_computed_in_double() -> None:
    """The mean is a direction that outweighs the others by far, as in features after a ReLU."""
    features = torch.randn(48, 512, dtype=torch.float32) + 100
    assert smallest_squares(features, 1).dtype == torch.float32
    assert_close(smallest_squares(features, 1).double(), smallest_squares(features.double(), 1), rtol=1e-7, atol=0)


def test_the_spectrum_of_features_on_a_gpu_is_computed_on_the_host() -> None:
    """With tensors that only have shapes and devices."""
    seen: list[str] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "eigh" in str(operator):
                seen.append(args[0].device.type)
            return operator(*args, **(kwargs or {}))

    with FakeTensorMode(), Watching():
        term = smallest_squares(torch.empty(8, 16, device="cuda"), 1)
    assert seen == ["cpu"]
    assert term.device.type == "cuda"
