"""The run directory: the only place that knows the names of the files in which a run is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

JOURNAL = "journal.jsonl"
LOCK, MLFLOW_LOCK = "lock", "mlflow.lock"
TIME_FORMAT = "%Y%m%d-%H%M%S"
"""Format of the time in a run's name, in UTC."""
MODEL_CARD = "MODEL_CARD.md"
NOT_MIRRORED = ("ray", "logs", LOCK, MLFLOW_LOCK)
"""Files and folders that are useless on another machine."""


@dataclass(frozen=True)
class RunDirectory:
    """Directory of one run of a search or a comparison.

        experiments/<name>/<run>/        run = the time at which it was started, in UTC
            space.yaml                   the resolved experiment; `--resume` reads it
            journal.jsonl                one event a line, appended and synced; the durable truth
            environment.json             versions, host, command
            data.csv                     names, classes and hashes of the examples, which `--resume` compares
            plugins/                     copies of the files that `--plugin` gave, which `--resume` uses
            model/                       the best configuration, retrained, with MODEL_CARD.md (of a search)
            predictions/                 probabilities that the best trial, the baselines and the retrainings gave
            predictions.parquet, .csv    the same as one table, with file names
            report.html, best.yaml       the report; the best configuration as an experiment (of a search)
            batch.jpg                    a training batch as the network sees it, which the report shows
            searches/, comparison.*      the searches of its rows, and the tables (of a comparison)
            checkpoints/, ensemble/      folds and retrainings in progress; networks that become one model
            logs/, ray/                  output of Ray and MLflow; Ray Tune's own files
            lock, mlflow.lock            held by the process that runs it, and by the one that writes to MLflow
            mlflow.json                  position in the journal up to which MLflow is in sync

    >>> RunDirectory(Path("experiments/digits/20261129-101500-ab12")).journal.name
    'journal.jsonl'
    """

    path: Path

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def experiment_name(self) -> str:
        """Name of the experiment, that of the folder above."""
        return self.path.parent.name

    @property
    def run(self) -> str:
        """Name of the run, which is the time at which it was started, in UTC."""
        return self.path.name

    @property
    def full_name(self) -> str:
        """`name/run`."""
        return f"{self.experiment_name}/{self.run}"

    @property
    def journal(self) -> Path:
        """The events, one a line; see `tuner.record.events`."""
        return self.path / JOURNAL

    @property
    def replaced_journal(self) -> Path:
        """This machine's journal, after a longer and different one in the mirror has replaced it."""
        return self.path / "journal.other.jsonl"

    @property
    def has_begun(self) -> bool:
        """Whether there is a journal. A run that was refused before its first event has none."""
        return os.path.exists(self.journal)  # Path.exists raises for a name that is too long

    @property
    def space(self) -> Path:
        """The resolved experiment, as YAML."""
        return self.path / "space.yaml"

    @property
    def environment(self) -> Path:
        """Versions, machine and command, as JSON."""
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        """Inventory of the data, as CSV; see `tuner.record.data_record`."""
        return self.path / "data.csv"

    @property
    def plugins(self) -> Path:
        """Folder of the copies of plugins' files; see `tuner.record.plugin_record`."""
        return self.path / "plugins"

    @property
    def plugin_copies(self) -> list[Path]:
        """The copies of plugins' files, by name."""
        return sorted(self.plugins.glob("*.py"))

    @property
    def model(self) -> Path:
        """Folder of the retrained classifier."""
        return self.path / "model"

    @property
    def model_card(self) -> Path:
        """Description of the model for those who use it, as Markdown; it is among the files of the model."""
        return self.model / MODEL_CARD

    @property
    def predictions(self) -> Path:
        """Folder of the predictions of folds and of the test split; see `tuner.record.predictions`."""
        return self.path / "predictions"

    @property
    def examples(self) -> Path:
        """Names of the examples that predictions are of, as JSON."""
        return self.predictions / "examples.json"

    @property
    def mistakes_data(self) -> Path:
        """The mistakes of the model with their pictures, as JSON."""
        return self.predictions / "mistakes.json"

    @property
    def mistakes(self) -> Path:
        """Page of all mistakes of the model, as HTML."""
        return self.path / "mistakes.html"

    @property
    def predictions_csv(self) -> Path:
        """The table of predictions as CSV."""
        return self.path / "predictions.csv"

    @property
    def predictions_table(self) -> Path:
        """Predictions of the best trial, the baselines and the retrained networks, one row an example and model."""
        return self.path / "predictions.parquet"

    @property
    def ensemble_members(self) -> Path:
        """Folder of the retrained classifiers that become one model; removed when they have."""
        return self.path / "ensemble"

    def ensemble_member(self, seed: int) -> Path:
        """Folder of the classifier that was retrained with `seed`."""
        return self.ensemble_members / f"seed-{seed}"

    @property
    def report(self) -> Path:
        """Report of a search, as HTML."""
        return self.path / "report.html"

    @property
    def batch_picture(self) -> Path:
        """Picture of a training batch as the network sees it, which the report shows."""
        return self.path / "batch.jpg"

    @property
    def best_space(self) -> Path:
        """The best configuration, as an experiment file."""
        return self.path / "best.yaml"

    @property
    def tables_markdown(self) -> Path:
        """Tables of a comparison, as Markdown."""
        return self.path / "comparison.md"

    @property
    def tables_html(self) -> Path:
        """Tables of a comparison, as HTML."""
        return self.path / "comparison.html"

    @property
    def logs(self) -> Path:
        """Folder of the log files of Ray, MLflow and workers."""
        return self.path / "logs"

    @property
    def driver_log(self) -> Path:
        """Output of every library in the command's process."""
        return self.logs / "driver.log"

    @property
    def exit_report(self) -> Path:
        """Why the command's process ended, if it could not record it itself; see `tuner.cli.exit_monitor`."""
        return self.logs / "exit.txt"

    @property
    def live_steps(self) -> Path:
        """Folder of the steps of trainings in progress; see `tuner.record.live_steps`."""
        return self.logs / "steps"

    @property
    def ray(self) -> Path:
        """Ray Tune's own files, which are never read back."""
        return self.path / "ray"

    @property
    def lock(self) -> Path:
        """Lock file of the process that runs the experiment."""
        return self.path / LOCK

    @property
    def mlflow_lock(self) -> Path:
        """Lock file of the one process that writes the run to MLflow."""
        return self.path / MLFLOW_LOCK

    @property
    def mlflow_cursor(self) -> Path:
        """Position in the journal up to which MLflow is in sync."""
        return self.path / "mlflow.json"

    def trial_checkpoints(self, trial: str) -> Path:
        """Folder of the checkpoints of a trial's folds; removed when the trial ends."""
        return self.path / "checkpoints" / trial

    def fold_checkpoint(self, trial: str, fold: int) -> Path:
        """Checkpoint of a fold that is being trained."""
        return self.trial_checkpoints(trial) / f"fold-{fold}.pt"

    def retraining_checkpoint(self, seed: int, baseline: str = "") -> Path:
        """Checkpoint of a retraining that is in progress, of the best trial or of `baseline`."""
        return self.path / "checkpoints" / f"retrain-{f'{baseline}-' if baseline else ''}{seed}.pt"

    def hung_stacks(self, trial: str, fold: int) -> Path:
        """Stack traces of a fold that exceeded its time limit."""
        return self.logs / f"{trial}-fold-{fold}-hung.txt"

    def row_search(self, number: int) -> RunDirectory:
        """Directory of a comparison's search number `number`."""
        return RunDirectory(self.path / "searches" / f"{number:02d}")

    def row_searches(self) -> Iterator[RunDirectory]:
        """Yields the directories of a comparison's searches that have begun, by number."""
        for journal in sorted(self.path.glob(f"searches/*/{JOURNAL}")):
            yield RunDirectory(journal.parent)

    @property
    def artifacts(self) -> tuple[Path, ...]:
        """Files that are uploaded to MLflow, too."""
        return (
            self.space,
            self.environment,
            self.report,
            self.best_space,
            self.mistakes,
            self.predictions_table,
            self.predictions_csv,
            self.tables_markdown,
            self.tables_html,
            *self.plugin_copies,
        )
