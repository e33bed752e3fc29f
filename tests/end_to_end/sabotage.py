"""Run by `test_failures.py`: `python -m tests.end_to_end.sabotage KIND <arguments of tuner.search>`, a search to which
something happens.

`workers`: the worker of trial 0 is killed in the middle of its second fold, once; trial 1 hangs in its second fold, in
C and with the interpreter's lock; trial 2 always finds its GPU's memory full; and no file of the driver may grow from
the moment at which the first fold of trial 3 has its result. `image`: an image of the test split breaks while the
trials are trained. `nothing`: nothing, for what Ray's environment does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from trainables.trial import FoldTraining, Training
from tuner import search
from tuner.cluster import tune as trials
from tuner.cluster.watchdog import time_limit
from tuner.scheduling.scheduler import Decision, TrialScheduler

KILLED, HUNG, WITHOUT_MEMORY, UNRECORDED = range(4)
"""Number of the trial to which each happens."""
BROKEN_IMAGE = Path("photos", "test", "0", "1.png")


class SabotagedTrainable(trials.FoldTrainable):
    """Real trials in real processes, but for what is done to them here."""

    def _begin(self) -> FoldTraining:
        if self.number == WITHOUT_MEMORY:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        if self.number == HUNG and self.fold == 2:
            with time_limit(1, self.settings.hung_stacks(self.number, self.fold)):
                ctypes.PyDLL(None).sleep(600)
        fold = super()._begin()
        if self.number == KILLED and self.fold == 2:
            kill_after_a_checkpoint(fold.training)
        return fold


def kill_after_a_checkpoint(training: Training) -> None:
    """Kills the process after its first step; unless that is the one at which it was resumed."""
    keep = training._keep

    def keep_and_die() -> None:
        keep()
        assert training.checkpoints is not None
        training.checkpoints.wait()  # its thread would die with the process
        os.kill(os.getpid(), signal.SIGKILL)

    if training.taken_up_at == 0:
        training._keep = keep_and_die  # type: ignore[method-assign]


def fill_the_disk() -> None:
    """Lets no file of this process grow beyond what the journal has, from the first result of a trial on."""
    fold_finished = TrialScheduler.fold_finished

    def with_little_room(self: TrialScheduler, number: int, result: Any) -> Decision:
        if number == UNRECORDED:
            room = self.journal.path.stat().st_size + 20  # for a part of the next line
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        return fold_finished(self, number, result)

    TrialScheduler.fold_finished = with_little_room  # type: ignore[method-assign]


def break_an_image(image: Path) -> None:
    """Cuts `image` off while trials are trained."""
    fold_finished = TrialScheduler.fold_finished

    def beside_a_failing_disk(self: TrialScheduler, number: int, result: Any) -> Decision:
        image.write_bytes(image.read_bytes()[:40])
        return fold_finished(self, number, result)

    TrialScheduler.fold_finished = beside_a_failing_disk  # type: ignore[method-assign]


def main(kind: str, arguments: list[str]) -> int:
    match kind:
        case "workers":
            trials.FoldTrainable = SabotagedTrainable  # type: ignore[misc]
            fill_the_disk()
        case "image":
            break_an_image(BROKEN_IMAGE)
    return search.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
