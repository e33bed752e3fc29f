"""Ray Tune as its guides to Optuna, ASHA and MLflow teach it: one trial is one call, which reports after each fold.

Actors are reused, and each trial has a core to itself, as everywhere else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import ray
from optuna.samplers import TPESampler
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.task import FIRST_POINT, LOG_UNIFORM, SCORED, UNIFORM, Task
from benchmarks.peers.usual import fold_scores


def main() -> None:
    """Runs the task."""
    task = from_arguments(Task)
    os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
    ray.init(include_dashboard=False, num_cpus=os.cpu_count(), log_to_driver=False)
    space = {name: tune.loguniform(*ends) for name, ends in LOG_UNIFORM.items()}
    space |= {name: tune.uniform(*ends) for name, ends in UNIFORM.items()}
    with TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, task=task), {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="val_top1",
                mode="max",
                search_alg=OptunaSearch(
                    points_to_evaluate=[FIRST_POINT], sampler=TPESampler(seed=task.seed, multivariate=True)
                ),
                scheduler=ASHAScheduler(max_t=task.folds, grace_period=1, reduction_factor=3),
                num_samples=task.trials,
                max_concurrent_trials=os.cpu_count(),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="peer",
                storage_path=folder,
                callbacks=[
                    MLflowLoggerCallback(f"sqlite:///{Path(folder) / 'mlflow.db'}", experiment_name="peer"),
                    Said(task),
                ],
                verbose=0,
            ),
        )
        tuner.fit()
    ray.shutdown()


def train(config: dict[str, Any], task: Task) -> None:
    """One trial."""
    scores: list[float] = []
    for score in fold_scores(task, config):
        scores.append(score)
        tune.report({"val_top1": fmean(scores)})


class Said(tune.Callback):
    """Says when a trial has trained every fold."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if result["training_iteration"] == self._task.folds:
            print(SCORED, time.time(), result["val_top1"], flush=True)


if __name__ == "__main__":
    main()
