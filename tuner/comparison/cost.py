"""Cost of a comparison, in trainings and optimiser steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tuner.comparison.comparison_experiment import ComparisonExperiment
from tuner.experiment.checks import Plan


@dataclass(frozen=True)
class ComparisonCost:
    """Cost of a comparison, in trainings and optimiser steps; the folds of searches are trainings, too."""

    num_rows: int
    num_columns: int
    num_seeds: int
    cell_steps: int
    num_folds: int
    fold_steps: int

    @classmethod
    def of(cls, comparison: ComparisonExperiment, plans: Sequence[Plan]) -> Self:
        """Computes the cost; `plans` are those of the arms, in their order."""
        searches = [plan for arm, plan in zip(comparison.arms, plans, strict=True) if arm.is_searched]
        return cls(
            num_rows=len(comparison.rows),
            num_columns=len(comparison.columns),
            num_seeds=comparison.compare.seeds,
            cell_steps=comparison.compare.seeds * sum(plan.num_retrain_steps for plan in plans),
            num_folds=sum((plan.num_trials or 0) * plan.num_trial_folds for plan in searches),
            fold_steps=sum(plan.total_steps or 0 for plan in searches),
        )

    def __str__(self) -> str:
        num_cells = self.num_rows * self.num_columns * self.num_seeds
        product = f"{self.num_rows} rows × {self.num_columns} columns × {self.num_seeds} seeds"
        cells = f"{product} = {num_cells} trainings, {self.cell_steps:,} steps"
        searches = f"; searches of {self.num_folds} folds, {self.fold_steps:,} steps" if self.num_folds else ""
        return cells + searches

    @property
    def total_steps(self) -> int:
        """Optimiser steps of searches and trainings."""
        return self.cell_steps + self.fold_steps
