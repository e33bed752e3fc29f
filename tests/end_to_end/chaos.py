"""Searches that are killed at random moments and gone on with: `make chaos`, or `python -m tests.end_to_end.chaos`.

Each round starts a small search in a folder of its own, waits for a random line of its journal and a moment more, and
strikes: it kills the driver, a trial's worker, the raylet or an agent of it with SIGKILL, sends SIGHUP as a terminal
that is closed, removes the experiments, or stops reading the output, which ends no search. Then it goes on with
`--resume`, in some rounds struck again, until the search has ended, and looks at what is left. The draws depend on
`--seed` and the round alone.

Prints one line a round, `round kind killed_after ok|failed seconds`, with what is wrong below it, and at the end one
line a kind: `kind passed/asked`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlflow import MlflowClient

from tests.end_to_end.forked import clean_environment
from tests.end_to_end.processes import came_true, marked_processes, ray_agents, raylets, training_processes
from tests.end_to_end.records import (
    events_below,
    fold_numbers,
    retrainings_of,
    trials_ended,
    trials_of,
    trials_started,
)
from tests.tuner.tiny import write_yaml

Kind = Literal["driver", "worker", "raylet", "agent", "terminal", "folder", "pipe"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIGNALS: Mapping[Kind, signal.Signals] = dict.fromkeys(KINDS, signal.SIGKILL) | {"terminal": signal.SIGHUP}

TRIALS, FOLDS, SEEDS = 4, 2, 1
SPACE: dict[str, Any] = {
    "search": {
        "trials": TRIALS,
        "folds": FOLDS,
        "repeats": 1,
        "baselines": [],
        "concurrency": 1,
        "first_points": [{"gamma_fe": 0.02}],
    },
    "training": {"num_steps": 40},
    "retrain": {"seeds": SEEDS},
}
LAST_EVENTS = 5
"""The first kill comes before these lines of an undisturbed journal, so that there is something to kill: a fold and the
retraining are still to be trained."""
MOMENT_S = 2.0
"""At most so long after its line; a fold takes about as long."""
DEADLINE_S = 600.0
"""Of whatever is waited for: a start takes ten seconds on an idle machine."""
GONE_S = 90.0
"""How long processes may outlive the search. Two agents of Ray's try for 61 s to tell a dead cluster that it is."""
MARK = "CHAOS_ROUND"
"""Environment variable of every process of a round: which round, and which start. Ray hands its environment on."""
NO_RAY = "a machine on which Ray starts"
"""What a search says, and nothing was started, where the machine is too busy for Ray's 30 s; it is then tried again."""
SAID_S = 20.0
"""How long it may take another process to say that the driver has died."""
GO_ON = "go on with: "
KEYS = ("best_trial", "best_params", "fold_scores", "test_scores")


@dataclass(frozen=True)
class Kill:
    """After so many lines of the journal, and so long a moment more."""

    kind: Kind
    after_events: int
    moment_s: float

    def __str__(self) -> str:
        return f"{self.after_events}+{self.moment_s:.1f}s"


@dataclass
class Round:
    """A search in its folder, and what is wrong with it."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    struck: int = 0
    starts: int = 0
    reader: subprocess.Popen[bytes] | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def check(self, holds: bool, problem: str) -> None:
        """Notes a problem unless `holds`."""
        if not holds:
            self.problems.append(problem)

    @property
    def num_events(self) -> int:
        """Events of the journal so far."""
        return len(events_below(self.folder))

    @contextlib.contextmanager
    def search(self) -> Iterator[subprocess.Popen[bytes]]:
        """The command, started anew where there is no journal to go on from."""
        self.starts += 1
        resume = ["--resume"] if any(self.folder.glob("experiments/*/*/journal.jsonl")) else []
        command = [sys.executable, "-m", "tuner.search", "--space", "tiny.yaml", "--json", "outcome.json", *resume]
        environment = clean_environment() | {MARK: f"{self.mark}-{self.starts}"}
        reader, writer = os.pipe()
        with (
            self.screen.open("ab") as screen,
            subprocess.Popen(["cat"], stdin=reader, stdout=screen) as self.reader,
            subprocess.Popen(command, cwd=self.folder, env=environment, stdout=writer, stderr=screen) as process,
        ):
            os.close(reader)
            os.close(writer)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    @property
    def screen(self) -> Path:
        """What a person would have seen."""
        return self.folder / "screen.txt"

    def says_at_last(self, text: str) -> bool:
        """Whether it is in the last line on the screen."""
        return any(text in line for line in self.screen.read_text().splitlines()[-1:])

    def forget(self) -> None:
        """Removes the record of a search whose record was removed while it ran, and what MLflow knows of it."""
        for name in ("experiments", "mlartifacts"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for file in self.folder.glob("mlflow.db*"):
            file.unlink()

    def expect_none_left(self) -> None:
        """Waits for all processes of the round to be gone, and ends those that are not."""
        if not came_true(lambda: not self.processes(), GONE_S):
            left = self.processes()
            self.problems.append(f"{GONE_S:g} s after the search there is still: {', '.join(left.values())}")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def processes(self, start: str = "") -> dict[int, str]:
        """What runs of this round, or of one start of it: process → its command line's beginning."""
        return marked_processes(self.mark_of(start))

    def mark_of(self, start: str = "") -> str:
        return f"{MARK}={self.mark}-{start}"

    def victims(self, kind: Kind, driver: int) -> list[int]:
        """What a kill of that kind would hit now."""
        if kind in ("driver", "terminal", "folder"):
            return [driver]
        if kind == "pipe":
            return [] if self.reader is None else [self.reader.pid]
        find = {"raylet": raylets, "agent": ray_agents, "worker": training_processes}[kind]
        return find(self.mark_of(str(self.starts)))


def run_round(folder: Path, kills: Sequence[Kill], expected: dict[str, Any] | None = None) -> list[str]:
    """A search that is killed so often, one kill a start, and then ends; gives what is wrong with what it has left.

    `expected` is the outcome of an undisturbed search, where it must be the same.
    """
    this = Round(folder)
    write_yaml(folder, **SPACE)
    waiting: list[Kill | None] = [*kills, None]
    while waiting:
        struck, events_before = this.struck, this.num_events
        with this.search() as process:
            if waiting[0] is not None:
                _kill(this, process, waiting[0])
            ended = came_true(lambda process=process: process.poll() is not None, DEADLINE_S)
            this.check(ended, f"the search hangs at {this.num_events} events, after {waiting[0]}")
            strike = waiting[0] if this.struck > struck else None
            if strike is not None and process.returncode != 0:
                _check_said(this, strike, has_recorded=this.num_events != events_before)
        is_removed = strike is not None and strike.kind == "folder"
        if is_removed:
            this.forget()
        elif process.returncode == 0:
            break
        if not (this.struck == struck and this.says_at_last(NO_RAY)):
            del waiting[0]
    this.expect_none_left()
    this.check(process.returncode == 0, f"the last start ended with {process.returncode}")
    this.check(this.struck == len(kills), f"killed {this.struck} times of {len(kills)}")
    this.check("Traceback" not in this.screen.read_text(), "a traceback is on the screen")
    if not this.problems:
        check_journal(this)
        _check_store(this)
    if not this.problems and expected is not None:
        got = json.loads((folder / "outcome.json").read_text())
        for key in KEYS:
            this.check(got[key] == expected[key], f"{key}: {got[key]}, undisturbed {expected[key]}")
    return this.problems


def _kill(this: Round, process: subprocess.Popen[bytes], kill: Kill) -> None:
    """Waits for the moment, and strikes. The driver must then come to an end by itself, whoever it was."""

    def victims() -> list[int]:
        return this.victims(kill.kind, process.pid)

    def is_time() -> bool:
        return process.poll() is not None or (this.num_events >= kill.after_events and bool(victims()))

    this.check(came_true(is_time, DEADLINE_S), f"the search hangs before {kill}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(kill.moment_s)
    came_true(is_time, DEADLINE_S)  # the moment may have outlived the worker
    for pid in victims()[:1]:
        with contextlib.suppress(ProcessLookupError):
            if kill.kind == "folder":
                shutil.rmtree(this.folder / "experiments", ignore_errors=True)
            else:
                os.kill(pid, SIGNALS[kill.kind])
            this.struck += 1


def _check_said(this: Round, strike: Kill, has_recorded: bool) -> None:
    """A search that was cut off after its first event has said so; one whose record was removed promises nothing."""
    if strike.kind == "folder":
        promised = "--resume" in this.screen.read_text().rpartition("error: ")[2]
        this.check(not promised, "it is to be gone on with, and its record was removed")
    elif has_recorded:
        said = came_true(lambda: this.says_at_last(GO_ON), SAID_S)
        this.check(said, f"it ended without a word after {strike}")


def check_journal(this: Round) -> None:
    """Exactly the trials that were asked for; nothing tried or trained twice, nothing left open."""
    events = events_below(this.folder)
    trials = trials_of(events)
    for what, numbers in (("trials started", trials_started(events)), ("trials ended", trials_ended(events))):
        this.check(sorted(numbers) == list(range(TRIALS)), f"{what}: {numbers}")
    params = Counter(json.dumps(trial.params, sort_keys=True) for trial in trials.values())
    this.check(max(params.values()) == 1, f"a configuration twice: {params}")
    folds = Counter(fold_numbers(events))
    this.check(max(folds.values()) == 1, f"a fold twice: {folds}")
    ends = {number: (trial.state, trial.reason) for number, trial in trials.items()}
    this.check(all(state in ("complete", "pruned") for state, _ in ends.values()), f"ends of the trials: {ends}")
    seeds = Counter(retrainings_of(events))
    this.check(list(seeds.values()) == [1] * SEEDS, f"retrainings: {seeds}")


def _check_store(this: Round) -> None:
    """One run a trial, none still running."""
    client = MlflowClient(f"sqlite:///{this.folder / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, max_results=1000)
    of_trials = Counter(run.data.tags["trial_id"] for run in runs if "trial_id" in run.data.tags)
    asked = {f"trial-{number:04d}": 1 for number in range(TRIALS)}
    this.check(of_trials == asked, f"runs of trials: {of_trials}")
    running = [run.info.run_name for run in runs if run.info.status not in ("FINISHED", "FAILED")]
    this.check(not running, f"not ended in MLflow: {running}")
    parents = [run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags]
    this.check(len(parents) == 1, f"runs of searches: {parents}")


def undisturbed(folder: Path) -> tuple[dict[str, Any], int]:
    """The outcome of a search that nobody kills, and the lines of its journal. Raises where it is not in order."""
    problems = run_round(folder, [])
    assert not problems, problems
    return json.loads((folder / "outcome.json").read_text()), Round(folder).num_events


def draw_kills(seed: int, number: int, kind: Kind, num_events: int) -> list[Kill]:
    """The kills of a round, a start each: one, and in a third of the rounds another before, of a driver."""
    draws = random.Random(f"{seed} {number}")
    latest = num_events - LAST_EVENTS
    kill = Kill(kind, draws.randint(1, latest), draws.uniform(0, MOMENT_S))
    if draws.random() < 2 / 3:
        return [kill]
    return [Kill("driver", draws.randint(0, kill.after_events), draws.uniform(0, MOMENT_S)), kill]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the rounds; exit code 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.chaos")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="number of the first round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--keep", type=Path, help="folder for the searches, which stay there (default: a temporary one)"
    )
    arguments = parser.parse_args(argv)
    asked: Counter[Kind] = Counter()
    passed: Counter[Kind] = Counter()
    with contextlib.ExitStack() as stack:
        root = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        expected, num_events = undisturbed(_made(root / "undisturbed"))
        print(f"undisturbed: {num_events} events, best {expected['best_trial']}", flush=True)
        for number in range(arguments.first, arguments.first + arguments.rounds):
            kind = arguments.kinds[(number - 1) % len(arguments.kinds)]
            kills = draw_kills(arguments.seed, number, kind, num_events)
            started_s = time.monotonic()
            problems = run_round(_made(root / f"round-{number:02d}"), kills, expected)
            asked[kind] += 1
            passed[kind] += not problems
            killed_after = ",".join(map(str, kills))
            result, took_s = "failed" if problems else "ok", time.monotonic() - started_s
            print(f"{number:2d} {kind:6s} {killed_after} {result} {took_s:.0f}", flush=True)
            for problem in problems:
                print(f"   {problem}", flush=True)
    for kind in asked:
        print(f"{kind} {passed[kind]}/{asked[kind]}")
    return int(passed != asked)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
