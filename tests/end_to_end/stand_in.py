"""A trainable that stands in for `FoldTrainable`: same resources, same reports, no training."""

from __future__ import annotations

from typing import Any

from ray import tune

from trainables.results import FoldResult
from tuner.cluster.worker_reports import FoldDone
from tuner.scheduling.assignment import Assignment


class StandIn(tune.Trainable):
    """Says at once that each fold has ended. What happens before is for `meanwhile` to say."""

    def setup(  # type: ignore[override]  # `with_parameters` adds them
        self, config: dict[str, Any], images: Any, probes: Any
    ) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        self.assignment: Assignment = new_config["assignment"]
        self.folds = self.assignment.folds
        return True

    def step(self) -> dict[str, Any]:
        self.meanwhile()
        fold, *self.folds = self.folds
        return {"trial": self.assignment.number, "report": FoldDone(FoldResult(fold, 0.5, 0.0))}

    def meanwhile(self) -> None:
        """In place of a training."""
        raise NotImplementedError
