"""Runs of `benchmarks.quality`: who takes part, by which command, and what each run gave."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.arguments import as_arguments
from benchmarks.peers.photographs import PhotoTask, Split, splits_of
from benchmarks.peers.searched import SearchTask
from trainables.files import write_whole
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

ROOT = Path(__file__).parents[1]
OURS, THIRD = "ours", "ours_in_a_third"
TEMPLATE_COMMIT = "a72014d"
NOT_HANDED_ON = {*WORKER_ENVIRONMENT, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
"""Variables that a user has not set: how many threads there are is each contestant's own affair."""


@dataclass(frozen=True)
class Contestant:
    """A module of `benchmarks.peers`, the share of the minutes that it is given, and by how many points of top-1 this
    project is to be ahead of it."""

    name: str
    module: str
    title: str
    lead_points: float = 0.0
    share: float = 1.0

    @property
    def is_ours(self) -> bool:
        """Whether it is this project, as it is checked out."""
        return self.name in (OURS, THIRD)


CONTESTANTS = {
    each.name: each
    for each in (
        Contestant(OURS, "searched", "this project"),
        Contestant(THIRD, "searched", "this project in a third of the minutes", share=1 / 3),
        Contestant("linear_probe", "frozen_features", "logistic regression on frozen features", 4.0),
        Contestant("fastai", "fastai_fine_tune", "fastai's fine_tune", 3.0),
        Contestant("tune_optuna", "tuned_fine_tuning", "Ray Tune, OptunaSearch and MLflowLoggerCallback", 3.0),
        Contestant("template", "searched", f"this project's template at {TEMPLATE_COMMIT}", 3.0),
    )
}
PEERS = tuple(name for name, each in CONTESTANTS.items() if not each.is_ours)


@dataclass(frozen=True)
class Setup:
    """What all runs share. `minutes` are those of a contestant with all of them; `settings` are further ones of ours;
    `version` is the checked-out commit; `template` the checkout of `TEMPLATE_COMMIT`, and `work` a folder for files."""

    minutes: float
    size_px: int
    backbone: str
    settings: tuple[str, ...]
    version: str
    fastai_python: str
    template: Path
    work: Path


@dataclass(frozen=True)
class Run:
    """One contestant, folder and seed. `correct` has a 1 for each test photograph that it named rightly, in the order
    of their files, else 0; `seconds` are up to its final model. `failed` says why there is none, and is else empty."""

    folder: str
    contestant: str
    seed: int
    minutes: float
    size_px: int
    backbone: str
    version: str
    settings: str
    seconds: float = 0.0
    said: str = ""
    correct: str = ""
    failed: str = ""

    @property
    def top1(self) -> float:
        """Share of the test photographs that are named rightly, in [0, 1]."""
        return self.correct.count("1") / len(self.correct)

    @property
    def key(self) -> tuple[object, ...]:
        """What has to be equal for a run not to be repeated. A peer does not depend on the version of ours."""
        own = (self.version, self.settings) if CONTESTANTS[self.contestant].is_ours else ()
        return (self.folder, self.contestant, self.seed, self.minutes, self.size_px, self.backbone, *own)


class Record:
    """Runs in a JSON file, which is written after each of them; of no file, if there is no path."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        entries = json.loads(path.read_bytes()) if path is not None and path.exists() else []
        self._runs = {run.key: run for run in (Run(**entry) for entry in entries)}

    def find(self, run: Run) -> Run | None:
        """The same run as it came out earlier. A failed one, or one of uncommitted files, is to be repeated."""
        found = self._runs.get(run.key)
        is_uncertain = CONTESTANTS[run.contestant].is_ours and run.version.endswith("-dirty")
        return None if found is None or found.failed or is_uncertain else found

    def add(self, run: Run) -> None:
        """Keeps a run, in the place of an earlier one."""
        self._runs[run.key] = run
        if self._path is not None:
            entries = [asdict(each) for each in self._runs.values()]
            write_whole(self._path, json.dumps(entries, indent=1, ensure_ascii=False).encode())


def planned(setup: Setup, root: Path, contestant: str, seed: int) -> Run:
    """The run before it is made."""
    settings = " ".join(setup.settings) if CONTESTANTS[contestant].is_ours else ""
    return Run(
        root.name, contestant, seed, setup.minutes, setup.size_px, setup.backbone, setup.version, settings=settings
    )


def make_run(setup: Setup, root: Path, plan: Run) -> Run:
    """Starts the contestant and waits for its end. It has the machine, and a cache that is empty."""
    contestant = CONTESTANTS[plan.contestant]
    with tempfile.TemporaryDirectory(prefix="quality-", dir=setup.work) as folder:
        out, log = Path(folder, "predictions.json"), Path(folder, "log.txt")
        task = task_of(setup, contestant, root, plan.seed, out)
        command, limit_s = command_of(setup, contestant, task), limit_s_of(task)
        reason = _run_to_its_end(command, log, Path(folder, "cache"), limit_s)
        if reason:
            print(*log.read_text(errors="replace").splitlines()[-15:], sep="\n", flush=True)
            return Run(**asdict(plan) | {"failed": reason})
        handed_in = json.loads(out.read_bytes())
        try:
            correct = marks_of(handed_in["predicted"], splits_of(root)[1], root)
        except ValueError as error:
            return Run(**asdict(plan) | {"failed": str(error)})
    return Run(**asdict(plan) | {"seconds": handed_in["seconds"], "said": handed_in["said"], "correct": correct})


def task_of(setup: Setup, contestant: Contestant, root: Path, seed: int, out: Path) -> PhotoTask:
    """What the contestant is given; its time starts now."""
    given: dict[str, Any] = {
        "root": root,
        "out": out,
        "kept": setup.work / "kept" / root.name,
        "minutes": setup.minutes * contestant.share,
        "seed": seed,
        "started_s": time.time(),
        "size_px": setup.size_px,
        "backbone": setup.backbone,
    }
    if contestant.is_ours:
        return SearchTask(**given, checkout=ROOT, budget="minutes", settings=" ".join(setup.settings))
    if contestant.name == "template":
        return SearchTask(**given, checkout=setup.template, budget="trials")
    return PhotoTask(**given)


def command_of(setup: Setup, contestant: Contestant, task: PhotoTask) -> list[str]:
    """The contestant's process."""
    python = setup.fastai_python if contestant.name == "fastai" else sys.executable
    return [python, "-W", "ignore", "-m", f"benchmarks.peers.{contestant.module}", *as_arguments(task)]


def limit_s_of(task: PhotoTask) -> float:
    """After which a contestant counts as hung: three times its minutes, and an hour."""
    return 3 * 60 * task.minutes + 3600


def marks_of(predicted: Mapping[str, str], test: Split, root: Path) -> str:
    """`Run.correct` of predicted classes, by file below `root`.

    Raises ValueError unless there is one for each test photograph, and no other.
    """
    names = [file.relative_to(root).as_posix() for file in test.files]
    if predicted.keys() != set(names):
        lacking, foreign = len(set(names) - predicted.keys()), len(predicted.keys() - set(names))
        raise ValueError(f"predictions: {lacking} test photographs lack one, {foreign} are of no test photograph")
    classes = [test.class_names[label] for label in test.labels]
    return "".join(str(int(predicted[name] == cls)) for name, cls in zip(names, classes, strict=True))


def reason_to_skip(setup: Setup, contestant: str) -> str:
    """Why a contestant cannot take part here; empty if it can. Makes the template's checkout."""
    if contestant == "fastai":
        command = [setup.fastai_python, "-W", "ignore", "-c", "import fastai.vision.all"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        return f"fastai is not to be had ({last}): pip install '.[bench]'" if done.returncode else ""
    if contestant == "template":
        return check_out(TEMPLATE_COMMIT, setup.template)
    return ""


def check_out(commit: str, folder: Path) -> str:
    """Copies the files of a commit to `folder`. Returns why it could not."""
    if shutil.which("git") is None:
        return f"git, which would check out {commit}, is not installed"
    archive = folder.with_suffix(".tar")
    command = ["git", "-C", str(ROOT), "archive", "--output", str(archive), commit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"commit {commit} is not in this checkout ({done.stderr.strip().splitlines()[0]})"
    folder.mkdir(parents=True)
    shutil.unpack_archive(archive, folder, filter="data")
    return ""


def version_here() -> str:
    """The commit that is checked out, with `-dirty` where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "unknown-dirty"


def make_all(
    setup: Setup, roots: Iterable[Path], seeds: Sequence[int], names: Sequence[str], record: Record
) -> list[Run]:
    """All runs, one after the other, so that each has the machine to itself; those on record are not repeated."""
    roots, runs = list(roots), []
    for seed in seeds:
        for root in roots:
            for name in names:
                plan = planned(setup, root, name, seed)
                run = record.find(plan)
                if run is None:
                    run = make_run(setup, root, plan)
                    record.add(run)
                runs.append(run)
                result = (
                    f"failed: {run.failed}" if run.failed else f"{run.top1:.4f} after {run.seconds:.0f} s, {run.said}"
                )
                print(f"{root.name} seed {seed} {name}: {result}", flush=True)
    return runs


def _run_to_its_end(command: Sequence[str], log: Path, cache: Path, limit_s: float) -> str:
    """Runs a command with what it starts; returns why it failed, or nothing."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
    environment |= {"PYTHONPATH": str(ROOT), "TUNER_CACHE": str(cache)}
    with log.open("w") as said:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"no end within {limit_s:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # nothing that it has left may slow the next one down
            process.wait()
    return f"exit code {code}" if code else ""
