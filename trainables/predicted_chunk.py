"""Predictions of a classifier for consecutive inputs, some of which cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.errors import Problem


@dataclass(frozen=True, eq=False)
class PredictedChunk:
    """Predictions for consecutive inputs: probabilities n×K, NaN where an input cannot be read, and the problems of
    these by their position in the chunk; of a calibrated classifier the similarity n to known examples, likewise."""

    probabilities: NDArray[np.float32]
    problems: dict[int, Problem]
    similarity: NDArray[np.float32] | None = None


def joined(chunks: Iterable[PredictedChunk]) -> PredictedChunk:
    """Makes one of the chunks of a classifier, of which there is at least one; the first may be empty."""
    chunks = list(chunks)
    problems: dict[int, Problem] = {}
    num_inputs = 0
    for chunk in chunks:
        problems |= {num_inputs + position: problem for position, problem in chunk.problems.items()}
        num_inputs += len(chunk.probabilities)
    similarities = [chunk.similarity for chunk in chunks if chunk.similarity is not None]
    probabilities = np.concatenate([chunk.probabilities for chunk in chunks])
    return PredictedChunk(probabilities, problems, np.concatenate(similarities) if similarities else None)
