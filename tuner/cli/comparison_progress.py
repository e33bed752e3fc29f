"""Progress of a comparison: trainings done, their scores, and the time left."""

from __future__ import annotations

from statistics import fmean

from rich.console import Console, Group
from rich.text import Text

from tuner.cli.display import Display
from tuner.experiment.objective import LABELS
from tuner.messages.wording import cell_name, clock, share_growth_message
from tuner.record.events import CellFailed, CellFinished, Event, RowSearched, ShareGrown
from tuner.record.history import ComparisonHistory


class ComparisonProgress(Display):
    """Progress display of a comparison: a line for each training, and a live bar of `num_cells` trainings."""

    unit = "training"

    def __init__(self, console: Console, name: str, num_cells: int, concurrency: int) -> None:
        super().__init__(console, name, concurrency)
        self.history = ComparisonHistory()
        self.num_cells = num_cells

    def __call__(self, event: Event, history: ComparisonHistory) -> None:
        """Shows an event of the journal; `history` includes it."""
        self.history = history
        self._say_event(event)
        self.on_change()

    def _say_event(self, event: Event) -> None:
        match event:
            case RowSearched(trial=None):
                self.say(f"{event.row} | {event.column}: no trial of the search is complete")
            case RowSearched():
                self.say(f"{event.row} | {event.column}: val {_chosen_by(event)}, chosen")
            case ShareGrown():
                self.say(share_growth_message(event.gpus))
            case CellFinished(result=result):
                score, took = f"{result.test_top1:.4f}", clock(result.duration_s)
                cell = cell_name(event.row, event.column, event.seed)
                self.say(self.with_summary(f"{cell}: test top-1 {score} in {took}"))
            case CellFailed():
                cell = cell_name(event.row, event.column, event.seed)
                self.say(self.with_summary(f"{cell} failed: {event.reason}"))

    def summary(self) -> str:
        """Returns trainings done and failed, and the time left, in one line."""
        parts = [f"{len(self.history.cells)}/{self.num_cells} trainings"]
        if failed := len(self.history.cell_failures):
            parts.append(f"{failed} failed")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Estimates the time left, in seconds, from the mean duration of the trainings so far.

        Returns None before the first, and when none is left.
        """
        durations_s = [event.result.duration_s for event in self.history.cells.values()]
        num_left = self.num_cells - len(durations_s) - len(self.history.cell_failures)
        if not durations_s or num_left <= 0:
            return None
        return num_left * fmean(durations_s) / self.concurrency

    def render(self) -> Group:
        """Renders the summary and a bar of the trainings that are done."""
        done = len(self.history.cells) + len(self.history.cell_failures)
        header = Text.assemble((self.name, "bold"), f"  {self.elapsed}  {self.phase}  ", (self.summary(), "cyan"))
        return Group(header, self.bar(self.num_cells, done))


def _chosen_by(event: RowSearched) -> str:
    """The metric that chose with its value, and top-1 if that is another: `log loss 0.4000 (top-1 0.7500)`."""
    top1 = "" if event.val_top1 is None else f"{LABELS['top1']} {event.val_top1:.4f}"
    if event.objective == "top1" or event.val_objective is None:
        return top1
    return f"{LABELS[event.objective]} {event.val_objective:.4f}" + (f" ({top1})" if top1 else "")
