from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import start, total_losses
from tests.trainables.methods.parity import assert_parity
from tests.trainables.methods.settings import REDUCTIONS
from tests.trainables.tiny import CPU, tiny_batch, tiny_context, tiny_network
from trainables.methods import METHODS, MethodConfig
from trainables.methods.cutmix import CutMixConfig
from trainables.methods.l2 import L2, L2Config
from trainables.methods.mixing import Mix, MixableConfig, draw_cut, draw_mix, mixed
from trainables.methods.mixup import MixupConfig

WEIGHTLESS: dict[str, MethodConfig] = {"l2": L2Config()} | {
    name: reduced
    for name, (reduced, base) in REDUCTIONS.items()
    if isinstance(reduced, MixableConfig) and base == L2Config()
}
"""Methods with a mixing slot that without their weights are plain fine-tuning."""


def test_a_draw_depends_on_its_address_alone() -> None:
    first = draw_mix(6, 0.2, CPU, seed=1, step=5)
    draw_mix(9, 1.0, CPU, seed=1, step=6)
    again = draw_mix(6, 0.2, CPU, seed=1, step=5)
    assert again.weight == first.weight
    assert torch.equal(again.partner, first.partner)
    assert draw_mix(6, 0.2, CPU, seed=2, step=5).weight != first.weight
    assert draw_mix(6, 0.2, CPU, seed=1, step=7).weight != first.weight


def test_the_partner_is_a_permutation() -> None:
    for step in range(20):
        assert sorted(draw_mix(6, 0.2, CPU, 0, step).partner.tolist()) == list(range(6))


def test_weights_are_the_greater_of_beta_and_its_complement() -> None:
    """For α = 0.2: mean 0.899, median 0.976, and 42 % of the draws above 0.99."""
    weights = np.array([draw_mix(1, 0.2, CPU, 0, step).weight for step in range(4000)])
    assert weights.min() >= 0.5
    assert weights.max() <= 1
    assert weights.mean() == pytest.approx(0.899, abs=0.01)
    assert np.median(weights) == pytest.approx(0.976, abs=0.01)
    assert (weights > 0.99).mean() == pytest.approx(0.42, abs=0.03)


@pytest.mark.parametrize("alpha", [1e-3, 100])
def test_weights_are_numbers_at_both_ends_of_alpha(alpha: float) -> None:
    assert all(0.5 <= draw_mix(1, alpha, CPU, 0, step).weight <= 1 for step in range(100))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_blend_with_a_tensor_is_that_with_a_number(dtype: torch.dtype) -> None:
    """λ is not rounded to the type of the features: the labels are mixed with the exact one."""
    weight = 0.8765432
    results = []
    for given in (weight, torch.tensor(weight, dtype=torch.float64)):
        x = torch.linspace(-9, 9, 400, dtype=dtype).view(4, 100).requires_grad_()
        blended = Mix(given, torch.tensor([1, 2, 3, 0])).blend(x)
        blended.square().sum().backward()
        results.append((blended, x.grad))
    (of_number, number_grad), (of_tensor, tensor_grad) = results
    assert torch.equal(of_tensor, of_number)
    assert_close(tensor_grad, number_grad)


def test_blend_of_a_whole_weight_is_the_first_to_the_bit() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(Mix(1.0, torch.tensor([1, 2, 3, 0])).blend(x), x)


def test_blend_follows_the_formula() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 4.0]])
    blended = Mix(0.75, torch.tensor([1, 2, 0])).blend(x)
    assert_close(blended, torch.tensor([[1.5, 2.75], [2.25, 4.75], [0.25, 3.5]]))


@pytest.mark.parametrize("name", WEIGHTLESS)
@pytest.mark.parametrize(
    ("slot", "method"),
    [
        ({"mixing": "mixup", "mixing_alpha": 0.4}, MixupConfig(alpha=0.4)),
        (
            {"mixing": "cutmix", "mixing_alpha": 0.4, "cutmix_probability": 0.7},
            CutMixConfig(alpha=0.4, probability=0.7),
        ),
    ],
)
def test_the_slot_is_the_method_of_its_name_to_the_bit(
    name: str, slot: dict[str, object], method: MethodConfig
) -> None:
    in_slot, alone = start(WEIGHTLESS[name].model_copy(update=slot)), start(method)
    in_slot.run()
    alone.run()
    assert total_losses(in_slot) == total_losses(alone)
    for mine, yours in zip(in_slot.method.student.parameters(), alone.method.student.parameters(), strict=True):
        assert torch.equal(mine, yours)


@pytest.mark.usefixtures("float64")
def test_loss_and_gradient_match_the_papers_through_the_slot() -> None:
    student, batch = tiny_network(source_head=False), tiny_batch(step=5)
    images = student.embed(batch.inputs)

    mix, ours = draw_mix(6, 0.9, CPU, 3, 5), L2Config(mixing="mixup", mixing_alpha=0.9)
    theirs = references.mixup(student, batch, mix.weight, mix.partner)
    assert_parity(L2(ours, student, tiny_context(seed=3)).loss(batch), theirs, student)

    cut, ours = draw_cut(images, 0.9, 1, 3, 5), L2Config(mixing="cutmix", mixing_alpha=0.9, cutmix_probability=1)
    assert cut.labels.weight < 1
    box = ((part.start, part.stop) for part in (cut.rows, cut.columns))
    theirs = references.cutmix(student, batch, *box, cut.labels.partner)
    assert_parity(L2(ours, student, tiny_context(seed=3)).loss(batch), theirs, student)


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
def test_the_slot_leaves_what_it_is_given_and_blends_whole_labels(mixing: str) -> None:
    config, batch = L2Config(mixing=mixing, mixing_alpha=1.0, cutmix_probability=1.0), tiny_batch()
    embedded = torch.randn(6, 3, 8, 8)
    before = embedded.clone()
    inputs, targets = mixed(config, embedded, batch, tiny_context())
    assert torch.equal(embedded, before)
    if mixing == "none":
        assert inputs is embedded
        assert targets is batch.labels
    else:
        assert not torch.equal(inputs, before)
        assert_close(targets.sum(dim=1), torch.ones(6))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if issubclass(method.Config, MixableConfig)])
def test_without_mixing_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def drawn(*_: object) -> None:
        raise AssertionError("a draw without mixing")

    monkeypatch.setattr("trainables.methods.mixing.rng_for", drawn)
    start(METHODS[name].Config()).run(until=2)
