"""Tests that every method of fine-tuning passes, for methods of others: `pytest --pyargs trainables.testing`.

That runs them on each method that `METHODS` has, with its defaults: the project's own, those of installed packages, and
those of the files in SMILE_TUNER_PLUGINS. For more settings, and beside a method's own tests:

    from trainables.testing.method_contract import LossContract, TrainingContract

    @pytest.mark.parametrize("config", [MyConfig(), MyConfig(weight=0.5)], ids=str)
    class TestTheLoss(LossContract): ...

Needs pytest, which the package itself does not depend on.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("trainables.testing.method_contract")
