"""Optuna as its guide to parallel optimisation teaches it: processes of joblib that share a study in a journal file."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import joblib  # type: ignore[import-untyped]
import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback

from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.task import FIRST_POINT, LOG_UNIFORM, SCORED, UNIFORM, Task
from benchmarks.peers.usual import fold_scores

STUDY = "peer"


def main() -> None:
    """Runs the task."""
    task, num_jobs = from_arguments(Task), os.cpu_count() or 1
    with TemporaryDirectory() as folder:
        file = Path(folder) / "study.log"
        study = optuna.create_study(study_name=STUDY, storage=storage(file), direction="maximize")
        study.enqueue_trial(FIRST_POINT)
        joblib.Parallel(n_jobs=num_jobs)(joblib.delayed(work)(task, file, number) for number in range(num_jobs))


def work(task: Task, file: Path, number: int) -> None:
    """One process, until the study has its trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name=STUDY,
        storage=storage(file),
        sampler=TPESampler(seed=task.seed + number, multivariate=True, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.RUNNING)
    study.optimize(partial(objective, task), callbacks=[MaxTrialsCallback(task.trials, states=states)])


def storage(file: Path) -> JournalStorage:
    """The journal, opened."""
    return JournalStorage(JournalFileBackend(str(file)))


def objective(task: Task, trial: optuna.Trial) -> float:
    """One trial."""
    params = {name: trial.suggest_float(name, *ends, log=True) for name, ends in LOG_UNIFORM.items()}
    params |= {name: trial.suggest_float(name, *ends) for name, ends in UNIFORM.items()}
    scores: list[float] = []
    for fold, score in enumerate(fold_scores(task, params)):
        scores.append(score)
        trial.report(fmean(scores), fold)
        if fold + 1 < task.folds and trial.should_prune():
            raise optuna.TrialPruned
    print(SCORED, time.time(), fmean(scores), flush=True)
    return fmean(scores)


if __name__ == "__main__":
    main()
