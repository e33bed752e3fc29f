"""What MLflow shows of a comparison: a parent run, and one run a training. Its rows' searches are runs of their own."""

from __future__ import annotations

from tuner.experiment.tree import flatten
from tuner.messages.wording import cell_name
from tuner.record.events import CellFailed, CellFinished, ComparisonEnded, ComparisonStarted, Event, HardwareInspected
from tuner.record.history import ComparisonHistory
from tuner.tracking.points import Point, loss_points, test_points
from tuner.tracking.run_writer import RunWriter, end_status, hardware_tags


class ComparisonProjection:
    """Writes the events of a comparison to MLflow."""

    def __init__(self, writer: RunWriter) -> None:
        self.history = ComparisonHistory()
        self.writer = writer

    def apply(self, event: Event) -> None:
        """Takes an event that MLflow has into the history."""
        self.history.apply(event)

    def project(self, event: Event) -> None:
        """Takes an event into the history, and writes to MLflow what it says. Raises what MLflow raises."""
        self.apply(event)
        match event:
            case ComparisonStarted():
                self.writer.open(self.writer.parent, event.time_s, {}, flatten(event.space))
            case HardwareInspected():
                self.writer.write_parent(event.time_s, tags=hardware_tags(event))
            case CellFinished():
                self._cell_finished(event)
            case CellFailed():
                name = self._open_cell(event, event.time_s, event.reason)
                self.writer.end(name, event.time_s, "FAILED")
            case ComparisonEnded():
                self._comparison_ended(event)

    def kill(self, time_s: float, why: str) -> None:
        """Ends the parent as killed at `time_s`; `why` says the reason."""
        self.writer.write_parent(time_s, tags={"why": why})
        self.writer.end(self.writer.parent, time_s, "KILLED")

    def _cell_finished(self, event: CellFinished) -> None:
        result = event.result
        name = self._open_cell(event, event.time_s - result.duration_s, reason="")
        measures = [Point(measure, value) for measure, value in event.measures.items()]
        self.writer.write(name, event.time_s, [*test_points(result), *measures, *loss_points(result)])
        self.writer.end(name, event.time_s, "FINISHED")

    def _open_cell(self, event: CellFinished | CellFailed, started_s: float, reason: str) -> str:
        """Makes the run of a training, and returns its name."""
        name = cell_name(event.row, event.column, event.seed)
        tags = {"row": event.row, "column": event.column, "seed": str(event.seed), "reason": reason}
        self.writer.open(name, started_s, tags, event.config)
        return name

    def _comparison_ended(self, event: ComparisonEnded) -> None:
        self.writer.write_parent(event.time_s, [Point("duration_s", event.duration_s)], {"why": event.why})
        self.writer.end(self.writer.parent, event.time_s, end_status(event.outcome))
