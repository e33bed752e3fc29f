"""Chunks of predictions become one."""

from __future__ import annotations

import numpy as np

from trainables.errors import Problem
from trainables.predicted_chunk import PredictedChunk, joined


def test_problems_move_to_their_position_among_all() -> None:
    problem = Problem("x", "an image", "none")
    shares, similarity = np.zeros((2, 3), dtype=np.float32), np.array([0.5, 0.25], dtype=np.float32)
    chunks = [PredictedChunk(shares, {1: problem}, similarity), PredictedChunk(shares, {0: problem}, similarity)]
    whole = joined(chunks)
    assert whole.probabilities.shape == (4, 3)
    assert list(whole.problems) == [1, 2]
    assert whole.similarity is not None
    assert whole.similarity.tolist() == [0.5, 0.25, 0.5, 0.25]
    assert joined([PredictedChunk(shares, {})]).similarity is None
