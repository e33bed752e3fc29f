"""Types that all packages share.

Shape letters, used as suffixes where a shape is not obvious: N batch, K target classes, S source classes, C channels,
H and W map height and width, D pooled features, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from trainables.step_values import StepValues

LossTerms = dict[str, Tensor]
"""Named, weighted scalar losses; the training loop minimises their sum."""

CompileMode = Literal["none", "default", "reduce-overhead"]
"""Mode of `torch.compile`; `none` does not compile."""

NO_TOKEN = -1
"""Padding of token ids. It is in no vocabulary, so that the ids alone tell tokens from padding."""


class Tokenize(Protocol):
    """Function from a sentence to at most `max_tokens` token ids, special ones included."""

    def __call__(self, sentence: str, max_tokens: int) -> list[int]: ...


@dataclass(frozen=True)
class Batch:
    """One training batch on the device.

    `inputs` are raw: uint8 images N×3×H×W (augmented, not normalised) or token ids N×T, padded with `NO_TOKEN`;
    `Backbone.embed` converts them to a representation that can be mixed. `labels` N; `index` N are positions in the
    training set. `step` counts optimiser steps from 1 and is the address of the batch's random draws. `second_inputs`
    is a second augmentation of the same images, for methods with two views. `values` gives what the host draws for the
    step, where the step is recorded or may be (`trainables.training.graph`); None where it is computed as it comes.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor
    step: int
    second_inputs: Tensor | None = None
    values: StepValues | None = None


class Outputs(NamedTuple):
    """Outputs of a network for a batch.

    `features` is the last map before pooling: N×C×H×W for images, N×T×C for token models, N×D without a map. `pooled`
    N×D is the input of both heads. `target_logits` are N×K, `source_logits` N×S, or None without source head.
    """

    features: Tensor
    pooled: Tensor
    target_logits: Tensor
    source_logits: Tensor | None


class SourceOutputs(NamedTuple):
    """Outputs of a frozen network that predicts no target class, as a teacher's: `Outputs` without `target_logits`."""

    features: Tensor
    pooled: Tensor
    source_logits: Tensor | None


def num_positions(features: Tensor) -> int:
    """Number of positions of a feature map: H·W of N×C×H×W, T of N×T×C, 1 of N×D."""
    match features.ndim:
        case 4:
            return features.shape[2] * features.shape[3]
        case 3:
            return features.shape[1]
        case _:
            return 1
