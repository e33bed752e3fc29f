"""Comparing a method with its reference: every term's value, and every term's gradient at every parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from trainables.types import LossTerms


def assert_parity(ours: LossTerms, theirs: dict[str, Tensor], network: nn.Module, **weights: float) -> None:
    """Asserts that values and gradients of `ours` are `theirs` times `weights` (default 1), in double precision."""
    assert ours.keys() == theirs.keys()
    for name, term in ours.items():
        expected = weights.get(name, 1.0) * theirs[name]
        assert_close(term, expected, rtol=1e-10, atol=1e-13)
        assert_close(gradients(term, network), gradients(expected, network), rtol=1e-9, atol=1e-12)


def gradients(term: Tensor, network: nn.Module) -> dict[str, Tensor]:
    """Parameter → gradient of `term`, zero if it does not depend on the parameter."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return dict(zip(names, grads, strict=True))
