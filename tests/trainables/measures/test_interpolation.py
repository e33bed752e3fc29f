"""The identities of the interpolation loss, in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.tiny import NUM_CLASSES, TinyAffine, tiny_network
from trainables.backbones.network import TransferNetwork
from trainables.data.config import DataConfig
from trainables.data.images import Ints, LabelledImages
from trainables.measures.interpolation import (
    MAX_PAIRS,
    NUM_REPEATS,
    Functions,
    InterpolationLoss,
    distances,
    draw_pairs,
    interpolation_losses,
    measure_interpolation,
    outputs_of,
)
from trainables.seeding import rng_for

pytestmark = pytest.mark.usefixtures("float64")

COUNT = 24
CPU = torch.device("cpu")
DATA = DataConfig(dataset="digits", size_px=8, resize_px=10)


def one(function: Callable[[Tensor], Tensor]) -> Functions:
    return lambda inputs: {"f": function(inputs)}


def bent(inputs: Tensor) -> Tensor:
    """Not linear anywhere, and not even."""
    return torch.sin(3 * inputs) + inputs**2


def examples(count: int = COUNT) -> Tensor:
    return torch.from_numpy(rng_for(0, "examples").standard_normal((count, 5)))


def loss_of(function: Callable[[Tensor], Tensor], batch_size: int = COUNT, **options: Any) -> InterpolationLoss:
    inputs = examples()

    def embedded(positions: Ints) -> Iterator[Tensor]:
        yield from inputs[torch.from_numpy(positions)].split(batch_size)

    return interpolation_losses(one(function), embedded, COUNT, **{"seed": 3, **options})["f"]


def distance_of(function: Callable[[Tensor], Tensor], **changes: Tensor) -> Tensor:
    rng = rng_for(1, "draws")
    draws = {name: torch.from_numpy(rng.random(COUNT)) for name in ("weight_N", "delta_1_N", "delta_2_N")}
    inputs = examples()
    return distances(one(function), inputs, inputs.roll(1, 0), **(draws | changes))["f"]


def pictures(count: int = COUNT, side: int = 10) -> LabelledImages:
    pixels = rng_for(0, "pictures").integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return LabelledImages.of(pixels, np.arange(count) % NUM_CLASSES, [str(k) for k in range(NUM_CLASSES)])


def measured(network: TransferNetwork, batch_size: int = 7, data: DataConfig = DATA) -> dict[str, float]:
    return measure_interpolation(network, pictures(), data, batch_size, CPU)


def test_an_affine_function_has_none() -> None:
    layer = nn.Linear(5, 4)
    assert loss_of(layer).mean < 1e-15
    assert loss_of(bent).mean > 0.1


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_none_at_the_ends(weight: float) -> None:
    assert distance_of(bent, weight_N=torch.full((COUNT,), weight)).max() < 1e-14


def test_none_between_a_point_and_itself() -> None:
    delta = torch.from_numpy(rng_for(2, "delta").random(COUNT))
    assert distance_of(bent, delta_1_N=delta, delta_2_N=delta).max() < 1e-14


@pytest.mark.parametrize("factor", [-2.5, 0.0, 1e-3])
def test_scales_with_the_function(factor: float) -> None:
    base, scaled = loss_of(bent), loss_of(lambda inputs: factor * bent(inputs))
    assert scaled.mean == pytest.approx(abs(factor) * base.mean, rel=1e-12)
    assert scaled.standard_error == pytest.approx(abs(factor) * base.standard_error, rel=1e-9)
    assert scaled.norm == pytest.approx(abs(factor) * base.norm, rel=1e-12)
    if factor:
        assert scaled.relative == pytest.approx(base.relative, rel=1e-12)
    else:
        assert math.isnan(scaled.relative)


def test_between_the_examples_it_is_equation_1_without_the_square() -> None:
    weight = torch.from_numpy(rng_for(2, "weight").random(COUNT))
    zeros, ones = torch.zeros(COUNT), torch.ones(COUNT)
    x, y, w = examples(), examples().roll(1, 0), weight[:, None]
    equation_1 = ((bent(w * x + (1 - w) * y) - (w * bent(x) + (1 - w) * bent(y))) ** 2).sum(dim=1)
    measured = distance_of(bent, weight_N=weight, delta_1_N=zeros, delta_2_N=ones)
    torch.testing.assert_close(measured, equation_1.sqrt(), rtol=1e-12, atol=1e-14)


def test_equation_6_term_by_term() -> None:
    x, total = examples(), []
    for repeat in range(NUM_REPEATS):
        pairs = draw_pairs(COUNT, 3, repeat)
        parts = []
        for i, j, w, a, b in zip(pairs.first, pairs.second, pairs.weight, pairs.delta_1, pairs.delta_2, strict=True):
            at = [bent((1 - d) * x[i] + d * x[j]) for d in (w * a + (1 - w) * b, a, b)]
            parts.append(float((at[0] - (w * at[1] + (1 - w) * at[2])).norm()))
        total.append(fmean(parts))
    loss = loss_of(bent)
    assert loss.mean == pytest.approx(fmean(total), rel=1e-12)
    assert loss.standard_error == pytest.approx(stdev(total) / math.sqrt(NUM_REPEATS), rel=1e-9)
    assert loss.norm == pytest.approx(float(bent(x).norm(dim=1).mean()), rel=1e-12)


def test_one_seed_one_number() -> None:
    assert loss_of(bent) == loss_of(bent)
    assert loss_of(bent).mean != loss_of(bent, seed=4).mean


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_does_not_depend_on_the_batches(batch_size: int) -> None:
    whole, cut = loss_of(bent), loss_of(bent, batch_size)
    assert (cut.mean, cut.standard_error, cut.norm) == pytest.approx(
        (whole.mean, whole.standard_error, whole.norm), rel=1e-10
    )


class TestPairs:
    @pytest.mark.parametrize("count", [2, 3, 50])
    def test_permute_the_examples_and_leave_none_in_its_place(self, count: int) -> None:
        for repeat in range(20):
            pairs = draw_pairs(count, 0, repeat)
            assert sorted(pairs.first) == sorted(pairs.second) == list(range(count))
            assert (pairs.first != pairs.second).all()

    def test_differ_between_repeats_and_seeds(self) -> None:
        draws = [draw_pairs(50, seed, repeat) for seed in range(2) for repeat in range(3)]
        assert len({tuple(pairs.second) for pairs in draws}) == len({pairs.weight[0] for pairs in draws}) == 6

    def test_are_drawn_where_there_are_too_many(self) -> None:
        pairs = draw_pairs(MAX_PAIRS + 500, 0, 0)
        assert len(pairs) == len(set(pairs.first)) == len(pairs.weight) == MAX_PAIRS
        assert (pairs.first != pairs.second).all()
        assert pairs.first.max() >= MAX_PAIRS

    def test_every_draw_is_uniform(self) -> None:
        pairs = draw_pairs(MAX_PAIRS, 0, 0)
        for draws in (pairs.weight, pairs.delta_1, pairs.delta_2):
            assert 0 <= draws.min() < 0.01 < 0.99 < draws.max() < 1
            assert draws.mean() == pytest.approx(0.5, abs=0.03)
        assert abs(np.corrcoef([pairs.weight, pairs.delta_1, pairs.delta_2])[0, 1:]).max() < 0.1

    def test_need_two_examples(self) -> None:
        with pytest.raises(ValueError, match="at least 2 examples, got 1"):
            draw_pairs(1, 0, 0)


class TestNetwork:
    def test_an_affine_network_has_none(self) -> None:
        values = measured(tiny_network(kind=TinyAffine))
        assert values["label_il"] < 1e-13
        assert values["feature_il"] < 1e-13
        assert values["label_norm"] > 0.1

    def test_is_of_the_logits_and_of_the_pooled_features(self) -> None:
        network, inputs = tiny_network(), examples(4).new_zeros(4, 3, 8, 8)
        outputs: Mapping[str, Tensor] = outputs_of(network.eval())(inputs)
        seen = network(inputs)
        assert torch.equal(outputs["label"], seen.target_logits)
        assert torch.equal(outputs["feature"], seen.pooled)

    def test_says_everything(self) -> None:
        values = measured(tiny_network())
        parts = ("il", "il_se", "norm", "il_relative")
        assert values.keys() == {f"{name}_{part}" for name in ("label", "feature") for part in parts}
        assert values["label_il_relative"] == pytest.approx(values["label_il"] / values["label_norm"])
        assert all(value > 0 for value in values.values())

    def test_mixing_embeddings_is_mixing_pixels(self) -> None:
        network = tiny_network().eval()
        first, second = (torch.from_numpy(pictures().pixels[rows]).permute(0, 3, 1, 2) for rows in ([0, 1], [2, 3]))
        mixed_pixels = torch.lerp(first.double(), second.double(), 0.3)
        mixed_embeddings = torch.lerp(network.embed(first), network.embed(second), 0.3)
        torch.testing.assert_close(network.embed(mixed_pixels), mixed_embeddings, rtol=1e-12, atol=1e-12)

    def test_does_not_depend_on_the_batches_even_from_training_mode(self) -> None:
        network = tiny_network(dropout=0.5).train()
        whole = measured(network, batch_size=COUNT)
        network.train()
        assert measured(network, batch_size=5) == pytest.approx(whole, rel=1e-9)

    def test_leaves_the_network_as_it_is(self) -> None:
        network = tiny_network()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        measured(network)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_the_pairs_follow_the_sample_not_the_training(self) -> None:
        network = tiny_network()
        other = DATA.model_copy(update={"sampling_seed": 1})
        assert measured(network) == measured(network)
        assert measured(network, data=other)["label_il"] != measured(network)["label_il"]

    def test_in_single_precision_it_agrees_to_rounding(self) -> None:
        exact = measured(tiny_network())
        assert measured(tiny_network().float()) == pytest.approx(exact, rel=1e-4)
