"""Progress of a search: trials, their folds, the best so far and the time left."""

from __future__ import annotations

import math
import time
from itertools import islice
from pathlib import Path

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainables.results import FoldResult
from trainables.training.progress import PERIOD_S, StepProgress
from tuner.cli.display import Display
from tuner.experiment.objective import TOP1
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.tree import by_short_name
from tuner.messages.wording import clock, share_growth_message, spell_params, spell_scores
from tuner.record.baselines import LABELS, BaselineRecord
from tuner.record.events import (
    BaselineFailed,
    BaselineFoldFinished,
    BaselineRetrained,
    BaselineRetrainingFailed,
    Event,
    FoldFinished,
    RetrainingFailed,
    RetrainingFinished,
    ShareGrown,
    TrialEnded,
)
from tuner.record.history import RetrainingEvent, SearchHistory, TrialRecord
from tuner.record.live_steps import read_steps, spell_progress

MAX_ROWS = 40
"""Number of running trials, and of trainings within them, that the display lists; a screen has no more lines."""


def spell_mean(record: TrialRecord | BaselineRecord) -> str:
    """Formats the mean of a complete trial or baseline in the metric that is optimised: `log loss 0.4120`."""
    return "" if record.score is None else record.objective.spell(record.score)


def top1_beside(record: TrialRecord | BaselineRecord) -> str:
    """Formats the mean top-1 of a complete record as a further part of its line; "" where that is the objective."""
    return "" if record.objective == TOP1 or record.val_top1 is None else f", top-1 {record.val_top1:.4f}"


class SearchProgress(Display):
    """Progress display of a search: a line for each fold and trial, and live tables of running trials.

    The argument `concurrency` is the number of trials that fit on the cluster; the attribute is the number of folds
    that then train at once.
    """

    unit = "fold"

    def __init__(self, console: Console, space: SearchExperiment, num_trials: int | None, concurrency: int) -> None:
        super().__init__(console, space.name, space.search.folds_at_once(concurrency, num_trials))
        self.history = SearchHistory()
        self.names = space.short_names
        self.num_trials = num_trials
        self.num_folds = space.search.num_trial_folds
        self.live_steps: Path | None = None
        """Folder of the progress within trainings, to be shown, too; see `RunDirectory.live_steps`."""
        self._steps: tuple[float, dict[str, StepProgress]] = (-math.inf, {})

    def __call__(self, event: Event, history: SearchHistory) -> None:
        """Shows an event of the journal; `history` includes it."""
        self.history = history
        self._say_event(event)
        self.on_change()

    def _say_event(self, event: Event) -> None:
        trials = self.history.trials
        match event:
            case TrialEnded():
                self.say(self._trial_line(trials[event.trial]))
            case FoldFinished() if not self._live:
                self._say_fold(trials[event.trial], event.result)
            case ShareGrown():
                self.say(share_growth_message(event.gpus))
            case BaselineFoldFinished() | BaselineFailed():
                self._say_baseline(self.history.baselines[event.baseline], event)
            case RetrainingFailed() | RetrainingFinished() | BaselineRetrained() | BaselineRetrainingFailed():
                self._say_retraining(event)

    def _say_baseline(self, baseline: BaselineRecord, event: BaselineFoldFinished | BaselineFailed) -> None:
        if isinstance(event, BaselineFailed):
            self.say(f"{baseline.label} is left out: {event.reason}")
        elif baseline.score is not None:
            scores = " ".join(f"{value:.4f}" for value in baseline.fold_values)
            self.say(f"{baseline.label}: validation {spell_mean(baseline)} ({scores}){top1_beside(baseline)}")
        elif not self._live:
            result = event.result
            fold = f"fold {result.fold}/{baseline.num_folds}"
            self.say(f"{baseline.label} {fold}: {baseline.objective.value(result):.4f} in {clock(result.duration_s)}")

    def _say_retraining(self, event: RetrainingEvent) -> None:
        baseline = event.baseline if isinstance(event, BaselineRetrained | BaselineRetrainingFailed) else None
        whose = "" if baseline is None else f"{LABELS[baseline]}: "
        if isinstance(event, RetrainingFailed | BaselineRetrainingFailed):
            self.say(f"{whose}retraining with seed {event.seed} failed: {event.reason}")
        else:
            score, took = f"{event.result.test_top1:.4f}", clock(event.result.duration_s)
            self.say(f"{whose}retrained with seed {event.result.seed}: test top-1 {score} in {took}")

    def _say_fold(self, trial: TrialRecord, result: FoldResult) -> None:
        if len(trial.folds) < self.num_folds:
            fold = f"fold {result.fold}/{self.num_folds}"
            self.say(f"{trial.trial_id} {fold}: {trial.objective.value(result):.4f} in {clock(result.duration_s)}")

    def _trial_line(self, trial: TrialRecord) -> str:
        if trial.state == "complete":
            ending = f"val {spell_mean(trial)} ({spell_scores(trial.fold_values)}){top1_beside(trial)}"
        else:
            ending = f"{trial.state}: {trial.reason}"
        return f"{trial.trial_id} {ending}  {self._params_of(trial)}  | {self.summary()}"

    def _params_of(self, trial: TrialRecord) -> str:
        return spell_params(by_short_name(trial.params, self.names))

    def summary(self) -> str:
        """Returns trials done and running, the best so far, the baselines, and the time left, in one line."""
        best = self.history.totals.best
        limit = "" if self.num_trials is None else f"/{self.num_trials}"
        parts = [f"{self.num_done}{limit} trials", f"{self.history.count('running')} running"]
        if pruned := self.history.count("pruned"):
            parts.append(f"{pruned} stopped early")
        if failed := self.history.count("failed"):
            parts.append(f"{failed} failed")
        if best is not None:
            parts.append(f"best {best.value:.4f} ({best.trial_id})")
        scored = [baseline for baseline in self.history.baselines.values() if baseline.value is not None]
        parts += [f"{baseline.label} {baseline.value:.4f}" for baseline in scored]
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    @property
    def num_done(self) -> int:
        """Number of trials that have ended, in any state."""
        return len(self.history.trials) - self.history.count("running")

    def seconds_left(self) -> float | None:
        """Estimates the time left, in seconds, from the mean duration of folds and the mean number of folds of a trial.

        A budget of minutes is the most that can be left, and all that is known where it alone limits the trials.
        Returns None before the first fold, and when none is left.
        """
        budget_s = None if self.deadline_s is None else max(0.0, self.deadline_s - time.monotonic())
        if self.num_trials is None:
            return budget_s
        totals = self.history.totals
        num_raced = sum(totals.lengths.values())
        num_trained = sum(length * count for length, count in totals.lengths.items())
        folds_per_trial = num_trained / num_raced if num_raced else self.num_folds
        folds_left = (self.num_trials - len(self.history.trials)) * folds_per_trial
        for folds in (len(trial.folds) for trial in totals.running.values()):
            folds_left += min(self.num_folds - folds, max(folds_per_trial - folds, 1))
        if totals.mean_fold_s is None or folds_left <= 0:
            return None
        left_s = folds_left * totals.mean_fold_s / self.concurrency
        return left_s if budget_s is None else min(left_s, budget_s)

    def _bar(self) -> ProgressBar:
        """Bar of the folds that are done; of the time where it alone limits the trials."""
        if self.num_trials is None:
            total_s = 0.0 if self.deadline_s is None else self.deadline_s - self._started_s
            return self.bar(total_s, min(total_s, time.monotonic() - self._started_s))
        done = sum(len(trial.folds) + len(trial.ahead) for trial in self.history.totals.running.values())
        done += self.num_done * self.num_folds
        return self.bar(self.num_trials * self.num_folds, done)

    def render(self) -> Group:
        """Renders the summary, `MAX_ROWS` of the running trials, and a bar of the folds that are done."""
        running = self.history.totals.running
        bar = self._bar()
        table = Table(box=None, padding=(0, 2), show_header=False)
        for baseline in self.history.baselines.values():
            if baseline.missing_folds:
                scores = " ".join(f"{value:.4f}" for value in baseline.fold_values)
                table.add_row(baseline.label, f"fold {baseline.missing_folds[0]}/{baseline.num_folds}", scores, "")
        for trial in islice(running.values(), MAX_ROWS):
            scores = spell_scores(trial.fold_values)
            fold = f"fold {len(trial.folds) + 1}/{self.num_folds}"
            table.add_row(trial.trial_id, fold, scores, Text(self._params_of(trial)))
        if len(running) > MAX_ROWS:
            table.add_row(f"and {len(running) - MAX_ROWS} more", "", "", "")
        header = Text.assemble((self.name, "bold"), f"  {self.elapsed}  {self.phase}  ", (self.summary(), "cyan"))
        # The bar last: it ends without a new line, which would cut off a part after it.
        return Group(header, table, self._steps_table(), bar)

    def _steps_table(self) -> Table:
        """Table of the progress within trainings, which is read anew every `PERIOD_S`."""
        read_s, steps = self._steps
        if self.live_steps is not None and time.monotonic() - read_s >= PERIOD_S:
            steps = read_steps(self.live_steps, MAX_ROWS)
            self._steps = time.monotonic(), steps
        table = Table(box=None, padding=(0, 2), show_header=False)
        for name, progress in steps.items():
            table.add_row(name, Text(spell_progress(progress), "dim"))
        return table
