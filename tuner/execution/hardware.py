"""Hardware of a run: recorded in its journal, with the precisions that its first command decided for all workers."""

from __future__ import annotations

from tuner.execution.observer import Observer
from tuner.experiment.precision import Precisions
from tuner.record.events import HardwareInspected
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.journal import ComparisonJournal, SearchJournal
from tuner.resources.share import Share


def decided_precisions(share: Share, history: SearchHistory | ComparisonHistory) -> Precisions:
    """Returns what `auto` means in a run: as its journal has it, so that a resumed run computes as before, or by the
    hardware of `share`."""
    return share.precisions if history.hardware is None else history.hardware.precisions


def record_hardware(share: Share, journal: SearchJournal | ComparisonJournal, observer: Observer) -> None:
    """Records what trainings run on, if it is not what the journal has, and says it where there are GPUs."""
    precisions = decided_precisions(share, journal.history)
    known = journal.history.hardware
    if known is None or known.devices != share.devices:
        journal.append(HardwareInspected(devices=share.devices, precisions=precisions))
    if share.gpus:
        observer.say(f"training on {'; '.join(share.devices)}; precision auto is {precisions.training}")
    if precisions != share.precisions:
        here = share.precisions.training
        observer.say(f"precision auto is {precisions.training}, as when this began; this hardware alone: {here}")
