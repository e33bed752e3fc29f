from __future__ import annotations

import pytest

from tests.trainables.methods import references
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods.l2 import L2, L2Config


@pytest.mark.usefixtures("float64")
def test_loss_and_gradient_match_plain_cross_entropy() -> None:
    student = tiny_network(source_head=False)
    ours = L2(L2Config(), student, tiny_context()).loss(tiny_batch())
    assert_parity(ours, references.l2(student, tiny_batch()), student)


def test_it_keeps_nothing_of_the_source() -> None:
    method = L2(L2Config(), tiny_network(source_head=False), tiny_context())
    assert not L2.uses_source_head(L2Config())
    assert not list(method.extra_modules())
