"""The trainings of the contract tests, which come with the package: see `trainables.testing.trainings`.

Run as a program, it prints the losses of every setting's first steps: what another process must agree with.
"""

from __future__ import annotations

import json

import torch

from tests.trainables.methods.settings import SETTINGS
from trainables.testing.trainings import TRAINING, start, started_method, through_a_file, total_losses

__all__ = ["TRAINING", "first_losses", "start", "started_method", "through_a_file", "total_losses"]


def first_losses() -> dict[str, dict[str, list[float]]]:
    """Setting → loss term → its values in the first three steps."""
    torch.set_num_threads(1)
    losses = {}
    for name, config in SETTINGS.items():
        fit = start(config)
        fit.run(until=3)
        losses[name] = fit.history.terms
    return losses


if __name__ == "__main__":
    print(json.dumps(first_losses()))
