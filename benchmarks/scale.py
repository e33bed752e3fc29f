"""What a cluster of so many GPUs needs, computed from what was measured.

python -m benchmarks.scale [--gpus N…] [--trial-s S] [--trials-per-gpu N] [--gpus-per-node N] [--images N] [--size-px N]

docs/scale.md reads the table. Each constant says how it was measured; measure again and change it here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

MIB, GIB = 1 << 20, 1 << 30

EVENTS_PER_TRIAL = 5
"""Journal lines of a complete trial of three folds: it starts, three folds, it ends. Held by a test."""
JOURNAL_BYTES_PER_TRIAL = 9_987
"""Bytes of these lines in the journal of 64 trials of SMILE on digits (80 steps, all loss curves), divided by 64."""
APPEND_S = 0.006
"""One synced line of the journal on a local disk: median of 200 `Journal.append`s, beside other work. NFS is slower."""
REQUESTS_PER_TRIAL = 8
"""Requests to MLflow for such a trial. Held by a test; the replay of that journal over HTTP made 521 for 64 trials."""
REQUEST_S = 0.107
"""One request to a server on PostgreSQL, one after the other, in that replay; the machine was busy with other work."""
DATABASE_BYTES_PER_TRIAL = 197_760
"""What `pg_database_size` grew by in that replay, divided by 64."""
DRIVER_S = 0.041
"""The driver's time for a trial that trains nothing, with few known: proposal, Ray Tune, journal, racing, display. Of
the trials 20 to 120 of `make bench-search`, on an idle machine that MLflow's process and two workers shared."""
DRIVER_S_PER_KNOWN_TRIAL = 2.6e-5
"""What that grows by for each trial known: 0.062 s of the trials 820 to 920 there. TPE's proposals are 1e-5 of it."""
DRIVER_MIB = 1_250
"""Resident memory of the driver there, after 1,000 trials."""
CLUSTER_MIB = 810
"""Ray's own processes on a head (432) and two workers, beside a search (`make test-cluster`), PSS."""
WORKER_PROCESS_MIB = 1_265
"""Resident memory of a trial's process on the CPU, EfficientNet-Lite0, by `ps`; up to 2,154 in a comparison."""


@dataclass(frozen=True)
class Load:
    """What is assumed, not measured: how the cluster is used. `trial_s` is the time of a trial's three folds."""

    trial_s: float = 600.0
    trials_per_gpu: int = 4
    gpus_per_node: int = 8
    images: int = 6_000
    size_px: int = 256
    search_trials: int = 1_000


@dataclass(frozen=True)
class Needs:
    """What one search over all of the cluster asks for, each in the unit of its name.

    `…_busy` is the part of its time that something of which there is one is at work: at 1, it holds up what waits for
    it.
    """

    gpus: int
    trials_at_once: int
    trials_per_hour: float
    driver_busy: float
    """With `search_trials` known: at 1, GPUs wait."""
    journal_busy: float
    """The one writer, on a local disk; a part of what the driver does."""
    mlflow_requests_per_s: float
    mlflow_busy: float
    """The one connection that carries the journal over: at 1, MLflow is behind for as long as the search runs."""
    head_memory_gib: float
    dataset_gib: float
    """In each node's object store, whatever the number of trials there."""
    node_memory_gib: float
    journal_mib_per_day: float
    database_gib_per_day: float


def needs(gpus: int, load: Load) -> Needs:
    """The arithmetic."""
    at_once = gpus * load.trials_per_gpu
    per_s = at_once / load.trial_s
    dataset_gib = load.images * load.size_px**2 * 3 / GIB
    processes = min(gpus, load.gpus_per_node) * load.trials_per_gpu
    driver_s = DRIVER_S + DRIVER_S_PER_KNOWN_TRIAL * load.search_trials
    append_s = EVENTS_PER_TRIAL * APPEND_S
    per_day = 86_400 * per_s
    return Needs(
        gpus=gpus,
        trials_at_once=at_once,
        trials_per_hour=3_600 * per_s,
        driver_busy=per_s * driver_s,
        journal_busy=per_s * append_s,
        mlflow_requests_per_s=per_s * REQUESTS_PER_TRIAL,
        mlflow_busy=per_s * REQUESTS_PER_TRIAL * REQUEST_S,
        head_memory_gib=(DRIVER_MIB + CLUSTER_MIB) / 1024 + 2 * dataset_gib,  # the driver's own, and the shared one
        dataset_gib=dataset_gib,
        node_memory_gib=dataset_gib + processes * WORKER_PROCESS_MIB / 1024,
        journal_mib_per_day=per_day * JOURNAL_BYTES_PER_TRIAL / MIB,
        database_gib_per_day=per_day * DATABASE_BYTES_PER_TRIAL / GIB,
    )


def most_gpus(load: Load) -> dict[str, int]:
    """How many GPUs each thing of which there is one keeps up with."""
    one = needs(1, load)
    return {"driver": int(1 / one.driver_busy), "MLflow connection": int(1 / one.mlflow_busy)}


def table(gpus: Sequence[int], load: Load) -> str:
    """What `gpus` GPUs need, a column each, in Markdown."""
    columns = [asdict(needs(count, load)) for count in gpus]
    head, *rows = ([name, *(_three_digits(column[name]) for column in columns)] for name in columns[0])
    lines = [head, ["---", *("---:" for _ in columns)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="What so many GPUs need.")
    parser.add_argument("--gpus", type=int, nargs="+", default=[10, 100, 1_000], metavar="N")
    for name, value in asdict(Load()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, metavar="N")
    arguments = vars(parser.parse_args(argv))
    gpus = arguments.pop("gpus")
    load = Load(**arguments)
    print(table(gpus, load))
    print("\n" + "\n".join(f"one {name} keeps up with {count:,} GPUs" for name, count in most_gpus(load).items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
