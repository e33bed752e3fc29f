"""What a person sees while a search runs: trials, their folds, the best so far and the time left."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.cli.display import Display
from tuner.experiment.search_experiment import SearchExperiment
from tuner.messages.wording import clock, share_growth_message, spell_params
from tuner.record.events import Event
from tuner.record.history import History, TrialRecord
from tuner.record.selection import best_trial


class SearchProgress(Display):
    """How a search goes."""

    unit = "fold"

    def __init__(self, console: Console, space: SearchExperiment, num_trials: int, concurrency: int) -> None:
        super().__init__(console, space.name)
        self.num_trials = num_trials
        self.num_folds = space.search.folds
        self.concurrency = space.search.folds_at_once(concurrency, num_trials)

    def __call__(self, event: Event, history: History) -> None:
        self.history = history
        if event["event"] == "trial_finished":
            self.say(self._trial_line(history.trials[event["trial"]]))
        elif event["event"] == "fold_finished" and not self._live:
            self._say_fold(history.trials[event["trial"]], event["result"])
        elif event["event"] == "share_grown":
            self.say(share_growth_message(event["gpus"]))
        elif event["event"] == "retrain_failed":
            self.say(f"retraining with seed {event['seed']} broke off: {event['reason']}")
        elif event["event"] == "retrain_finished":
            took = clock(event["duration_s"])
            self.say(f"retrained with seed {event['seed']}: test top-1 {event['test_top1']:.4f} in {took}")

    def _say_fold(self, trial: TrialRecord, result: Mapping[str, Any]) -> None:
        if len(trial.folds) < self.num_folds:
            fold = f"fold {result['fold']}/{self.num_folds}"
            self.say(f"{trial.trial_id} {fold}: {result['val_top1']:.4f} in {clock(result['duration_s'])}")

    def _trial_line(self, trial: TrialRecord) -> str:
        if trial.state == "complete":
            scores = " ".join(f"{score:.4f}" for score in trial.fold_scores)
            outcome = f"val top-1 {trial.val_top1:.4f} ({scores})"
        else:
            outcome = f"{trial.state}: {trial.reason}"
        return f"{trial.trial_id} {outcome}  {spell_params(trial.params)}  | {self.summary()}"

    def summary(self) -> str:
        """Trials done, running, best so far, time left."""
        best = best_trial(self.history.trials.values())
        parts = [f"{self.num_done}/{self.num_trials} trials", f"{self.history.count('running')} running"]
        if pruned := self.history.count("pruned"):
            parts.append(f"{pruned} stopped early")
        if failed := self.history.count("failed"):
            parts.append(f"{failed} failed")
        if best is not None:
            parts.append(f"best {best.val_top1:.4f} ({best.trial_id})")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    @property
    def num_done(self) -> int:
        """Trials that have ended, however."""
        return len(self.history.trials) - self.history.count("running")

    def seconds_left(self) -> float | None:
        """From the mean time of the folds so far, and from how many a trial trained before it ended; None before the
        first fold, and when none is left."""
        trials = self.history.trials.values()
        durations: list[float] = [fold["duration_s"] for trial in trials for fold in trial.folds]
        raced = [trial.trained for trial in trials if trial.state in ("complete", "pruned")]
        a_trial = fmean(raced) if raced else self.num_folds
        folds_left = (self.num_trials - len(trials)) * a_trial
        for folds in (len(trial.folds) for trial in trials if trial.state == "running"):
            folds_left += min(self.num_folds - folds, max(a_trial - folds, 1))
        if not durations or folds_left <= 0:
            return None
        return folds_left * sum(durations) / len(durations) / self.concurrency

    def _render(self) -> Group:
        trials = self.history.trials.values()
        done = sum(len(t.folds) + len(t.ahead) if t.state == "running" else self.num_folds for t in trials)
        bar = ProgressBar(total=self.num_trials * self.num_folds, completed=done)
        table = Table(box=None, padding=(0, 2), show_header=False)
        for trial in self.history.trials.values():
            if trial.state == "running":
                scores = " ".join(f"{score:.4f}" for score in trial.fold_scores)
                fold = f"fold {len(trial.folds) + 1}/{self.num_folds}"
                table.add_row(trial.trial_id, fold, scores, Text(spell_params(trial.params)))
        header = Text.assemble((self.name, "bold"), f"  {self.elapsed}  {self.phase}  ", (self.summary(), "cyan"))
        return Group(header, table, bar)  # the bar last: it ends without a new line, and what follows would be cut off
