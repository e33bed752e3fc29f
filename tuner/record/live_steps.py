"""Steps of the trainings in progress, as small files in the run directory: workers write them, displays read them.

They are no part of the record: they are neither synced to the disk nor copied, and one that is not renewed is ignored.
Where a worker does not share the disk of the driver, its steps are not seen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from trainables.training.progress import StepProgress, progress_to
from tuner.messages.wording import clock

STALE_S = 30.0
"""Age from which a file is taken for that of a process that has ended."""


@dataclass(frozen=True)
class StepFile:
    """File of one training: its stem is the training's name, as `trial-0003 fold 2`."""

    folder: Path
    name: str

    def write(self, progress: StepProgress) -> None:
        """Replaces the file. Errors of the disk are ignored, as the training goes on without a display."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            new = self.folder / f"{self.name}.new"
            new.write_text(progress.model_dump_json(), encoding="utf-8")
            new.replace(self.folder / f"{self.name}.json")

    def remove(self) -> None:
        """Removes the file: the training has ended."""
        with contextlib.suppress(OSError):
            (self.folder / f"{self.name}.json").unlink(missing_ok=True)


@contextlib.contextmanager
def shown_in(file: StepFile | None) -> Iterator[None]:
    """Has a training that is begun and ends inside the block report to `file` (None: to nobody)."""
    if file is None:
        yield
        return
    try:
        with progress_to(file.write):
            yield
    finally:
        file.remove()


def read_steps(folder: Path, at_most: int | None = None) -> dict[str, StepProgress]:
    """Reads the progress of every training, or of the first `at_most` of them, by its name."""
    return dict(islice(_steps(folder), at_most))


def _steps(folder: Path) -> Iterator[tuple[str, StepProgress]]:
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stem):
        with contextlib.suppress(OSError, ValidationError):  # it may have ended meanwhile
            if time.time() - file.stat().st_mtime < STALE_S:
                yield file.stem, StepProgress.model_validate_json(file.read_bytes())


def spell_progress(progress: StepProgress) -> str:
    """Formats the progress of a training in one line.

    >>> spell_progress(StepProgress(step=30, num_steps=80, steps_per_epoch=10, loss=0.5, examples_per_s=210, left_s=7))
    'step 30/80, epoch 3.0/8.0, loss 0.5000, 210 examples/s, 0:07 left'
    """
    epochs = (progress.step / progress.steps_per_epoch, progress.num_steps / progress.steps_per_epoch)
    parts = [f"step {progress.step}/{progress.num_steps}", f"epoch {epochs[0]:.1f}/{epochs[1]:.1f}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    return ", ".join((*parts, f"{progress.examples_per_s:.0f} examples/s", f"{clock(progress.left_s)} left"))
