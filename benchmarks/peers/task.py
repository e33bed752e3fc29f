"""What all of them are to do: one folder of images, one network, one search space, one budget, the same folds."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.backbones.config import BackboneConfig

BACKBONE = BackboneConfig(name="package/efficientnet_lite0")
MEAN = STD = (0.5, 0.5, 0.5)
"""Of that backbone."""

LOG_UNIFORM = {"gamma_fe": (0.01, 0.1), "gamma_fc": (0.01, 0.1), "alpha": (0.1, 1.0)}
UNIFORM = {"ema_decay": (0.99, 0.9999)}
FIRST_POINT = {"gamma_fe": 0.01, "gamma_fc": 0.1, "alpha": 0.2, "ema_decay": 0.999}
"""The authors' values, which everybody tries first."""

SCORED = "SCORED"
"""How a peer says that a trial has trained every fold: `SCORED <Unix time> <mean top-1>`, a line each."""


@dataclass(frozen=True)
class Task:
    """`root` holds train/ with a folder a class. `mirrored`: whether images may be."""

    root: Path
    mirrored: bool = True
    size_px: int = 128
    steps: int = 100
    batch_size: int = 24
    learning_rate: float = 0.02
    trials: int = 6
    folds: int = 3
    seed: int = 0

    @property
    def stored_px(self) -> int:
        """Side to which images are resized before they are cropped."""
        return round(self.size_px / 0.875)

    def arguments(self) -> list[str]:
        """As `parsed` reads them."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in vars(self).items()]

    def experiment(self, directory: Path) -> dict[str, Any]:
        """The same as this project's experiment."""
        return {
            "name": "against-peers",
            "data": {"dataset": "imagefolder", "root": str(self.root), "size_px": self.size_px, "flip": self.mirrored},
            "backbone": BACKBONE.model_dump(mode="json", exclude_defaults=True),
            "method": {
                "name": "smile",
                **{name: {"log_uniform": list(ends)} for name, ends in LOG_UNIFORM.items()},
                **{name: {"uniform": list(ends)} for name, ends in UNIFORM.items()},
            },
            "training": {
                "num_steps": self.steps,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
            },
            "search": {
                "trials": self.trials,
                "folds": self.folds,
                "repeats": 1,
                "baselines": [],
                "seed": self.seed,
                "first_points": [FIRST_POINT],
            },
            "tracking": {"uri": f"sqlite:///{directory / 'mlflow.db'}", "directory": str(directory)},
            "retrain": {"seeds": 0},
        }


def parsed() -> Task:
    """The task that the command line states."""
    parser = argparse.ArgumentParser()
    for name, default in vars(Task(Path())).items():
        kind = (lambda text: text == "True") if isinstance(default, bool) else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    return Task(**vars(parser.parse_args()))
