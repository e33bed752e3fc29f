"""Run by `test_failures.py`: a trial takes more of the node's memory than Ray's monitor leaves it, in the middle of a
step, and only the first time. Everything else is real. Prints the states of the trials as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import ray

from tests.end_to_end.stand_in import StandIn
from tests.tuner.tiny import space_of
from tuner.cluster import tune
from tuner.cluster.connection import TUNE_ENVIRONMENT
from tuner.record.directory import RunDirectory
from tuner.record.journal import open_search_journal
from tuner.resources.share import Share
from tuner.scheduling.scheduler import TrialScheduler

ROOM_BYTES = 3 << 30
PART_BYTES = 128 << 20


class Hungry(StandIn):
    """Takes memory until its process is killed, or it has twice the room; once."""

    def meanwhile(self) -> None:
        flag = self.config["settings"].directory.path / "was_hungry"
        if flag.exists():
            return
        flag.touch()
        taken = []
        while len(taken) * PART_BYTES < 2 * ROOM_BYTES:
            taken.append(np.ones(PART_BYTES // 8))
            time.sleep(0.1)  # in which the monitor looks


def main(folder: Path) -> None:
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + ROOM_BYTES) / memory.total
    monitor = {"RAY_memory_usage_threshold": f"{threshold:.4f}", "RAY_memory_monitor_refresh_ms": "50"}
    os.environ.update(TUNE_ENVIRONMENT | monitor)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    tune.FoldTrainable = Hungry  # type: ignore[misc, assignment]
    with closing(open_search_journal(RunDirectory(folder))) as journal:
        tune.run_trials(TrialScheduler(space_of(search__trials=3), journal), {}, Share(1, 0, 1))
        states = [trial.state for trial in journal.history.trials.values()]
    print(json.dumps({"states": states, "was_hungry": (folder / "was_hungry").exists()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
