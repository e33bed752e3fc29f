from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from trainables.data.config import DataConfig
from trainables.data.datasets.digits import digits
from trainables.errors import Problem


def test_digits_are_scikit_learns() -> None:
    source = digits(DataConfig(dataset="digits"))
    bunch = load_digits()
    assert source.test is None
    assert source.class_names == tuple("0123456789")
    np.testing.assert_array_equal(source.train.labels, bunch.target)
    np.testing.assert_allclose(np.asarray(source.train.read(5)), bunch.images[5] * 255 / 16, atol=0.5)


def test_a_root_is_refused() -> None:
    problem = Problem("root", "no root for dataset digits, which comes with scikit-learn", "'there'")
    assert digits(DataConfig(dataset="digits", root=Path("there"))).problems == (problem,)
