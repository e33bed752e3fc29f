from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.seeding import global_generators_restored, rng_for, seed_for, torch_seeded


def test_a_seed_is_the_same_for_ever() -> None:
    """Old results stay reproducible: another number here changes every draw."""
    assert seed_for(7, "mix", 500) == 6_458_649_490_666_206_552


def test_seeds_fit_every_generator() -> None:
    seeds = [seed_for(0, "step", step) for step in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "mix"), (1, "mix")),
        ((0, "mix"), (0, "order")),
        ((0, "mix", 1), (0, "mix", 2)),
        ((0, "mix", 1), (0, "mix", "1")),
        ((0, "mix", 1, 2), (0, "mix", 12)),
        ((0, "ab"), (0, "a", "b")),
        ((0,), (0, "")),
    ],
)
def test_another_address_is_another_seed(one: tuple, other: tuple) -> None:
    assert seed_for(*one) != seed_for(*other)


def test_numpys_integers_and_strings_are_as_good_as_pythons() -> None:
    assert seed_for(np.int64(3), np.str_("fold"), np.int32(2)) == seed_for(3, "fold", 2)


def test_a_stream_depends_on_its_address_alone() -> None:
    first = rng_for(3, "mix", 9).random(4)
    np.random.seed(0)
    rng_for(3, "mix", 10).random(4)
    assert (rng_for(3, "mix", 9).random(4) == first).all()
    assert (rng_for(3, "mix", 10).random(4) != first).all()


def test_torch_is_seeded_inside_the_block_only() -> None:
    before = torch.get_rng_state()
    with torch_seeded(5, "head"):
        first = torch.rand(3)
    torch.rand(3)
    with torch_seeded(5, "head"):
        second = torch.rand(3)
    with torch_seeded(5, "other"):
        third = torch.rand(3)
    torch.set_rng_state(before)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_generators_are_restored_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), global_generators_restored():
        torch.rand(3)[0] / (1 // 0)
    assert torch.equal(torch.get_rng_state(), before)
