"""What a person sees while the trainings of a comparison run: how many are done, the latest scores, the time left."""

from __future__ import annotations

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.text import Text

from tuner.cli.display import Display
from tuner.comparison.cell import CellKey
from tuner.messages.wording import clock, share_growth_message
from tuner.record.events import Event
from tuner.record.history import History


class ComparisonProgress(Display):
    """How a comparison goes."""

    unit = "training"

    def __init__(self, console: Console, name: str, num_cells: int, concurrency: int) -> None:
        super().__init__(console, name)
        self.num_cells = num_cells
        self.concurrency = concurrency

    def __call__(self, event: Event, history: History) -> None:
        self.history = history
        match event["event"]:
            case "row_searched" if event["trial"] is None:
                self.say(f"{event['row']} | {event['column']}: the search found nothing that could be trained")
            case "row_searched":
                self.say(f"{event['row']} | {event['column']}: val top-1 {event['val_top1']:.4f}, chosen")
            case "share_grown":
                self.say(share_growth_message(event["gpus"]))
            case "cell_finished":
                took = clock(event["duration_s"])
                self.say(f"{_key(event)}: test top-1 {event['test_top1']:.4f} in {took}  | {self.summary()}")
            case "cell_failed":
                self.say(f"{_key(event)} failed: {event['reason']}  | {self.summary()}")

    def summary(self) -> str:
        """Trainings done and failed, and the time left."""
        parts = [f"{len(self.history.cells)}/{self.num_cells} trainings"]
        if failed := len(self.history.cell_failures):
            parts.append(f"{failed} failed")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """From the mean time of the trainings so far; None before the first, and when none is left."""
        durations = [event["duration_s"] for event in self.history.cells.values()]
        left = self.num_cells - len(durations) - len(self.history.cell_failures)
        if not durations or left <= 0:
            return None
        return float(left * sum(durations) / len(durations) / self.concurrency)

    def _render(self) -> Group:
        done = len(self.history.cells) + len(self.history.cell_failures)
        header = Text.assemble((self.name, "bold"), f"  {self.elapsed}  {self.phase}  ", (self.summary(), "cyan"))
        return Group(header, ProgressBar(total=self.num_cells, completed=done))


def _key(event: Event) -> CellKey:
    return CellKey(event["row"], event["column"], event["seed"])
