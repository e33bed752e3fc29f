"""Run directories of searches that ended in every way, to be listed."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from tests.tuner.tiny import add_trial, search_journal, search_started
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.directory import RunDirectory
from tuner.record.events import SearchEnded

INTERRUPTED = SearchEnded(outcome="interrupted", why="interrupted")
FINISHED = SearchEnded(outcome="finished", why="every trial has ended", best_trial=2, duration_s=5.0)
BROKEN = SearchEnded(outcome="failed", why="OSError: no space left on device")


def write_search(
    folder: Path, ending: SearchEnded | None = None, space: SearchExperiment | None = None
) -> RunDirectory:
    """Writes a search of six trials of which three ended and one runs; without `ending` its process was killed."""
    with closing(search_journal(folder)) as journal:
        journal.append(search_started(space, folder.name))
        add_trial(journal, 0, [0.5, 0.75])
        add_trial(journal, 1, [0.5], "pruned", "far behind")
        add_trial(journal, 2, [0.75, 0.75])
        add_trial(journal, 3, [1.0], "running")
        if ending is not None:
            journal.append(ending.model_copy(update={"time_s": time.time()}))
        return journal.directory
