"""Interpolation loss: the deviation of a network from linearity between two examples (SMILE, Eq. 6).

For x, x' and m(δ) = (1−δ)·x + δ·x', it is the Euclidean distance of f(m(λδ₁+(1−λ)δ₂)) from λ·f(m(δ₁)) + (1−λ)·f(m(δ₂)),
averaged over pairs and over λ, δ₁, δ₂ ~ U(0, 1). f are the target logits (Label-IL) or the pooled features
(Feature-IL). Two points that the paper leaves open are fixed here, as `il_spec=v1`: f are logits, because the paper's
values are above √2, the largest distance of two probability vectors; and the distance is not squared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.backbones.network import TransferNetwork
from trainables.data.batches import evaluation_batches
from trainables.data.config import DataConfig
from trainables.data.images import Ints, LabelledImages
from trainables.seeding import rng_for

SPEC = "il_spec=v1"
NUM_REPEATS = 5
MAX_PAIRS = 2000
"""Largest number of pairs of a repeat."""

Functions = Callable[[Tensor], Mapping[str, Tensor]]
"""Function from embedded inputs N×… to the outputs N×D of each f, by name."""


@dataclass(frozen=True)
class InterpolationLoss:
    """`mean` over pairs and repeats; `standard_error` over the repeats; `norm` is the mean ‖f‖ of the examples."""

    mean: float
    standard_error: float
    norm: float

    @property
    def relative(self) -> float:
        """IL/‖f‖, which does not shrink when f is merely scaled down (ours, not the paper's)."""
        return self.mean / self.norm if self.norm else math.nan


@dataclass(frozen=True, eq=False)
class Pairs:
    """Draws of one repeat: positions of P pairs of different examples, and λ (`weight`), δ₁ and δ₂ of each pair."""

    first: Ints
    second: Ints
    weight: NDArray[np.float64]
    delta_1: NDArray[np.float64]
    delta_2: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def measure_interpolation(
    network: TransferNetwork, images: LabelledImages, data: DataConfig, batch_size: int, device: torch.device
) -> dict[str, float]:
    """Measures `label_il` and `feature_il` on the centre crops of `images`, each with `…_se`, `…_norm`, `…_relative`.

    All networks measured on the same images have the same pairs.
    """

    def embedded(positions: Ints) -> Iterator[Tensor]:
        for batch in evaluation_batches(images.take(positions), data, batch_size, device):
            yield network.embed(batch.inputs)

    network.eval()
    losses = interpolation_losses(outputs_of(network), embedded, len(images), data.sampling_seed)
    values: dict[str, float] = {}
    for name, loss in losses.items():
        values |= {
            f"{name}_il": loss.mean,
            f"{name}_il_se": loss.standard_error,
            f"{name}_norm": loss.norm,
            f"{name}_il_relative": loss.relative,
        }
    return values


def outputs_of(network: TransferNetwork) -> Functions:
    """The functions of the SMILE paper's Table 6: target logits N×K and pooled features N×D."""

    def outputs(embedded: Tensor) -> Mapping[str, Tensor]:
        of_network = network(embedded)
        return {"label": of_network.target_logits, "feature": of_network.pooled}

    return outputs


@torch.inference_mode()
def interpolation_losses(
    functions: Functions,
    embedded: Callable[[Ints], Iterable[Tensor]],
    num_examples: int,
    seed: int,
    num_repeats: int = NUM_REPEATS,
    max_pairs: int = MAX_PAIRS,
) -> dict[str, InterpolationLoss]:
    """Interpolation loss of each function.

    `embedded` yields the embedded examples at the given positions in batches of one size.
    """
    repeats = [draw_pairs(num_examples, seed, repeat, max_pairs) for repeat in range(num_repeats)]
    means: dict[str, list[float]] = {}
    for pairs in repeats:
        for name, distance in _mean_distances(functions, embedded, pairs).items():
            means.setdefault(name, []).append(distance)
    norms = _mean_norms(functions, embedded(repeats[0].first))
    return {name: InterpolationLoss(fmean(m), _standard_error(m), norms[name]) for name, m in means.items()}


def draw_pairs(num_examples: int, seed: int, repeat: int, max_pairs: int = MAX_PAIRS) -> Pairs:
    """Draws a permutation of all examples without fixed point, and λ, δ₁, δ₂, at (seed, "interpolation", repeat).

    Raises ValueError for fewer than two examples.
    """
    if num_examples < 2:
        raise ValueError(f"at least 2 examples, got {num_examples}")
    rng = rng_for(seed, "interpolation", repeat)
    places = np.arange(num_examples)
    partner = rng.permutation(num_examples)
    while (partner == places).any():  # one permutation in e has no fixed point
        partner = rng.permutation(num_examples)
    weight, delta_1, delta_2 = rng.random((3, num_examples))
    kept = np.sort(rng.permutation(num_examples)[:max_pairs])
    return Pairs(kept, partner[kept], weight[kept], delta_1[kept], delta_2[kept])


def distances(
    functions: Functions, first: Tensor, second: Tensor, weight_N: Tensor, delta_1_N: Tensor, delta_2_N: Tensor
) -> dict[str, Tensor]:
    """Distance N of each function for each pair of embedded examples."""
    between = functions(_mixed(first, second, weight_N * delta_1_N + (1 - weight_N) * delta_2_N))
    at_1, at_2 = functions(_mixed(first, second, delta_1_N)), functions(_mixed(first, second, delta_2_N))
    weight_N1 = weight_N[:, None]
    return {
        name: torch.linalg.vector_norm(value - (weight_N1 * at_1[name] + (1 - weight_N1) * at_2[name]), dim=1)
        for name, value in between.items()
    }


def _mixed(first: Tensor, second: Tensor, delta_N: Tensor) -> Tensor:
    return torch.lerp(first, second, delta_N.view(-1, *[1] * (first.ndim - 1)))


def _mean_distances(
    functions: Functions, embedded: Callable[[Ints], Iterable[Tensor]], pairs: Pairs
) -> dict[str, float]:
    totals: dict[str, float] = {}
    start = 0
    for first, second in zip(embedded(pairs.first), embedded(pairs.second), strict=True):
        batch = slice(start, start := start + len(first))
        draws = (torch.from_numpy(draw[batch]).to(first) for draw in (pairs.weight, pairs.delta_1, pairs.delta_2))
        for name, distance in distances(functions, first, second, *draws).items():
            totals[name] = totals.get(name, 0.0) + float(distance.double().sum())
    return {name: total / len(pairs) for name, total in totals.items()}


def _mean_norms(functions: Functions, examples: Iterable[Tensor]) -> dict[str, float]:
    norms: dict[str, list[Tensor]] = {}
    for batch in examples:
        for name, value in functions(batch).items():
            norms.setdefault(name, []).append(torch.linalg.vector_norm(value, dim=1).double())
    return {name: float(torch.cat(parts).mean()) for name, parts in norms.items()}


def _standard_error(means: list[float]) -> float:
    return stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
