"""Cost of recording a search in MLflow: `python -m benchmarks.tracking`.

A driver journals trials whose folds take a fixed time in another process, with MLflow behind it in seven states that
take turns trial by trial. A trial's cost is its time from first to last event, which tracking lengthens if it holds up
the driver, and the processor time of the process behind it on top, as if all of it had been taken from the training. A
figure is the mean cost divided by the mean without MLflow. (Folds that compute would measure what else this machine
does; those of `search_spaces/smile.yaml` take longer than these.) `none-again` is a second driver without MLflow: what
it differs from 1 is noise. One line a figure: name, ratio, limit, ok or short.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from trainables.results import FoldResult
from tuner.execution.run_context import synced
from tuner.record.background import BackgroundSync
from tuner.record.directory import RunDirectory
from tuner.record.events import FoldFinished, SearchStarted, TrialEnded, TrialStarted
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.tracking.process import ProjectionProcess
from tuner.ui import server_command, server_environment

LIMIT = 1.05
FOLDS = 3
DELAY_S = 2.0
FLUSH_S = 30.0
START_S = 500.0
"""For a server to start, on a machine that may be busy."""
NAME = "bench"
DIMENSIONS = {"method.x": "uniform [0.0, 1.0]"}
SPACE: dict[str, Any] = {
    "name": NAME,
    "method": {"x": {"uniform": [0.0, 1.0]}},
    "training": {f"setting_{i}": i for i in range(40)},
    "search": {"folds": FOLDS, "seed": 0},
}
"""Of about as many settings as a real one; each is a param of every trial."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints. Exit code 1 where a figure falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--fold-s", type=float, default=3.0, help="how long a fold takes")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.chdir(folder)
        work = stack.enter_context(worker(arguments.fold_s))  # before there are threads: it is forked
        proxy_port = stack.enter_context(listening(backlog=64))
        target = multiprocessing.Value("i", 0)
        stack.enter_context(running(multiprocessing.Process(target=delay, args=(proxy_port, target), daemon=True)))
        server, doomed = (stack.enter_context(mlflow_server(name)) for name in ("server", "doomed"))
        target.value = server[0]
        silent = stack.enter_context(listening(backlog=64))
        stores: dict[str, str | None] = {
            "none": None,
            "none-again": None,
            "sqlite": f"sqlite:///{folder}/mlflow.db",
            "server": f"http://127.0.0.1:{server[0]}",
            "server-stopped": "http://127.0.0.1:9",
            "server-killed": f"http://127.0.0.1:{doomed[0]}",
            "server-in-2-s": f"http://127.0.0.1:{proxy_port.getsockname()[1]}",
            "server-silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        lanes = {name: stack.enter_context(lane(Path(folder) / name, uri)) for name, uri in stores.items()}
        costs: dict[str, list[float]] = {name: [] for name in stores}
        used_s = dict.fromkeys(stores, 0.0)
        for number in range(-1, arguments.rounds):  # the first one is not counted: caches, and a store's first tables
            if number == arguments.rounds // 2:
                kill(doomed[1])
            for name in random.sample(list(lanes), len(lanes)):
                journal, tracker = lanes[name]
                took = trial(journal, number + 1, work)
                before, used_s[name] = used_s[name], processor_s(tracker)
                costs[name] += [took + used_s[name] - before] if number >= 0 else []
                if tracker is not None and name in ("sqlite", "server", "server-killed"):
                    tracker.flush(FLUSH_S)  # what is still to be written burdens no other lane
    return report(costs)


def report(costs: dict[str, list[float]]) -> int:
    """A line a figure."""
    base = statistics.fmean(costs.pop("none"))
    ratios = {name: statistics.fmean(values) / base for name, values in costs.items()}
    for name, ratio in ratios.items():
        print(f"tracking-{name} {ratio:.3f} {LIMIT} {'short' if ratio > LIMIT else 'ok'}", flush=True)
    return int(max(ratios.values()) > LIMIT)


def processor_s(tracker: BackgroundSync | None) -> float:
    """Processor time of the tracking process so far."""
    if tracker is None:
        return 0.0
    assert isinstance(tracker._projection, ProjectionProcess)
    pid = tracker._projection.pid
    return sum(psutil.Process(pid).cpu_times()[:2]) if pid is not None else 0.0


def trial(journal: SearchJournal, number: int, work: Connection) -> float:
    """Seconds of one trial, from its first event to its last."""
    started = time.perf_counter()
    journal.append(TrialStarted(trial=number, params={"method.x": 0.1 * number}, source="sampler"))
    for k in range(1, FOLDS + 1):
        work.send(None)
        work.recv()
        journal.append(FoldFinished(trial=number, result=fold(k)))
    journal.append(TrialEnded(trial=number, state="complete"))
    return time.perf_counter() - started


def fold(k: int) -> FoldResult:
    """A result of the usual size: three loss terms at twenty steps."""
    steps = list(range(1, 21))
    terms = {term: [1 / step for step in steps] for term in ("target_label", "feature", "source_label")}
    return FoldResult(k, val_top1=0.5, duration_s=1.0, loss_steps=steps, loss_terms=terms)


@contextmanager
def lane(directory: Path, uri: str | None) -> Iterator[tuple[SearchJournal, BackgroundSync | None]]:
    """A journal, with MLflow behind it as in a search."""
    with closing(open_search_journal(RunDirectory(directory))) as journal:
        journal.append(SearchStarted(name=NAME, run=directory.name, space=SPACE, dimensions=DIMENSIONS))
        if uri is None:
            yield journal, None
            return
        with synced(journal, uri, NAME) as tracker:
            yield journal, tracker


@contextmanager
def worker(fold_s: float) -> Iterator[Connection]:
    """A process that takes the time of a fold whenever it is sent something."""
    ours, theirs = multiprocessing.Pipe()
    with running(multiprocessing.Process(target=train, args=(theirs, fold_s), daemon=True)):
        yield ours


def train(orders: Connection, fold_s: float) -> None:
    """Answers each order after `fold_s`."""
    while True:
        orders.recv()
        time.sleep(fold_s)
        orders.send(None)


@contextmanager
def running(process: multiprocessing.Process) -> Iterator[None]:
    """The process, for the block."""
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def listening(backlog: int) -> Iterator[socket.socket]:
    """A port that takes connections; nobody answers unless somebody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server


def delay(server: socket.socket, target: Any) -> None:
    """Hands everything on to the port in `target`, requests `DELAY_S` later."""

    def pump(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
        try:
            while chunk := source.recv(1 << 16):
                time.sleep(delay_s)
                sink.sendall(chunk)
        except OSError:
            pass
        sink.close()

    while True:
        client, _ = server.accept()
        upstream = socket.create_connection(("127.0.0.1", target.value))
        for arguments in ((client, upstream, DELAY_S), (upstream, client, 0.0)):
            threading.Thread(target=pump, args=arguments, daemon=True).start()


@contextmanager
def mlflow_server(name: str, port: int | None = None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A tracking server of our own in the working folder, and its port; of the same name it has the same store."""
    port = port or free_port()
    command = server_command(f"sqlite:///{Path.cwd()}/{name}.db", port)
    with Path(f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=server_environment(os.environ), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(Path(f"{name}.log").read_text())
            time.sleep(0.2)
        yield port, process
    finally:
        kill(process)


def kill(server: subprocess.Popen[bytes]) -> None:
    """Ends a server and its worker, which would outlive it."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def answers(port: int) -> bool:
    """Whether the server is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
