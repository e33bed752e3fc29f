"""The few shapes that everything passes around.

Shape letters, used as suffixes where a shape is not obvious: N batch, K target classes, S source classes, C channels,
H and W map height and width, D pooled features, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

LossTerms = dict[str, Tensor]
"""Named, already weighted scalar losses; their sum is what the loop minimises."""

CompileMode = Literal["none", "default", "reduce-overhead"]
"""Whether `torch.compile` compiles a network, and in which of its modes."""

NO_TOKEN = -1
"""Fills a row of token ids up to the width of its batch. No vocabulary has it, so that the ids say what is padding."""


class Tokenize(Protocol):
    """A sentence → at most so many token ids, the special ones included, as an encoder was pre-trained on them."""

    def __call__(self, sentence: str, max_tokens: int) -> list[int]: ...


@dataclass(frozen=True)
class Batch:
    """One training batch on the device.

    `inputs` are raw: uint8 images N×3×H×W (augmented, not normalised) or token ids N×T, filled up with `NO_TOKEN`;
    `Backbone.embed` makes them mixable. `index` N are positions in the training set. `step` counts optimiser steps from
    1 and is the address of the batch's random draws. `second_inputs` are the same images augmented anew, for methods
    that ask for two views.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor
    step: int
    second_inputs: Tensor | None = None


class Outputs(NamedTuple):
    """What a network says of a batch.

    `features` is the last map before pooling: N×C×H×W for images, N×T×C for token models, N×D where there is no map.
    `pooled` N×D is what both heads read. `source_logits` is None where the source head was dropped or not asked for.
    """

    features: Tensor
    pooled: Tensor
    target_logits: Tensor
    source_logits: Tensor | None


def num_positions(features: Tensor) -> int:
    """Spatial positions of a feature map: H·W of N×C×H×W, T of N×T×C, 1 of N×D."""
    match features.ndim:
        case 4:
            return features.shape[2] * features.shape[3]
        case 3:
            return features.shape[1]
        case _:
            return 1
