"""What the runs of `benchmarks.quality` come to: means, paired differences, figures, and a page of results."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from benchmarks.figures import Figure
from benchmarks.quality_runs import CONTESTANTS, OURS, THIRD, Run
from tuner.record.differences import seed_difference
from tuner.record.selection import mean_and_sd

MAX_OVERRUN = 1.15
"""Of the minutes of this project, by which its command may end later."""
PACKAGES = ("torch", "scikit-learn", "fastai", "ray", "optuna", "mlflow")


@dataclass(frozen=True)
class Difference:
    """Top-1 of one contestant over another's in points, paired by seed: mean, and half the width of its 95 % interval,
    over the seeds (Student's t; None of a single seed, and where all differ equally) and over the test photographs
    (normal)."""

    points: float
    over_seeds: float | None
    over_photographs: float


def difference(ours: Sequence[Run], theirs: Sequence[Run]) -> Difference:
    """Compares the runs of two contestants on one folder, which have the same seeds.

    Over the photographs, what varies is the mean over seeds of being right or not, ours less theirs.
    """
    of_seed = {run.seed: run for run in theirs}
    pairs = [(run, of_seed[run.seed]) for run in ours]
    paired = seed_difference({run.seed: run.top1 for run in ours}, {run.seed: run.top1 for run in theirs})
    assert paired is not None  # the seeds are the same
    over_seeds = None if paired.high is None else 100 * (paired.high - paired.mean)
    marks = np.mean([_marks(our) - _marks(their) for our, their in pairs], axis=0)
    return Difference(100 * paired.mean, over_seeds, float(196 * marks.std(ddof=1) / len(marks) ** 0.5))


def figures_of(runs: Iterable[Run]) -> list[Figure]:
    """The figures of one folder: the lead over each peer and, with a third of the minutes, over the best of them in
    points; and how long ours took, in its minutes. A figure of a failed run has failed."""
    by_name = _by_contestant(runs)
    folder = _figure_name(next(iter(by_name.values()))[0].folder)
    figures = []
    for name in _peers(by_name):
        limit = CONTESTANTS[name].lead_points
        figures.append(Figure(f"quality-{folder}-ahead_of_{name}", _lead(by_name, OURS, name), limit, at_least=True))
    best = best_peer(by_name)
    if THIRD in by_name and best is not None:
        name = f"quality-{folder}-in_a_third_ahead_of_best"
        figures.append(Figure(name, _lead(by_name, THIRD, best), 0.0, at_least=True))
    for name in filter(by_name.__contains__, (OURS, THIRD)):
        taken = [run.seconds / (60 * run.minutes * CONTESTANTS[name].share) for run in by_name[name]]
        value = None if any(run.failed for run in by_name[name]) else max(taken)
        figures.append(Figure(f"quality-{folder}-{name}_time_over_minutes", value, MAX_OVERRUN))
    return figures


def best_peer(by_name: Mapping[str, Sequence[Run]]) -> str | None:
    """The peer with the best mean test top-1, of those of which no run has failed."""
    whole = [name for name in _peers(by_name) if not any(run.failed for run in by_name[name])]
    return max(whole, key=lambda name: fmean(run.top1 for run in by_name[name]), default=None)


def score_lines(runs: Iterable[Run]) -> list[str]:
    """A line a contestant of one folder: test top-1 mean ± sd over seeds, and by how much ours is ahead of it."""
    by_name, lines = _by_contestant(runs), []
    for name, each in by_name.items():
        line = f"quality-{_figure_name(each[0].folder)}-{name} {_scores(each)}"
        if name != OURS and _lead(by_name, OURS, name) is not None:
            points, over_seeds, over_photographs = _cells(by_name[OURS], each)
            line += f", ours {points} points (95 %: {over_seeds} over seeds, {over_photographs} over photographs)"
        lines.append(line)
    return lines


def page(runs: Sequence[Run], skipped: Mapping[str, str], lines: Sequence[str], command: str) -> str:
    """The results as a page of docs/results."""
    folders = list(dict.fromkeys(run.folder for run in runs))
    seeds = len({run.seed for run in runs})
    first = runs[0]
    parts = [
        f"# Quality at equal wall-clock: {', '.join(folders)}",
        f"{date.today()}, commit {first.version}. {machine()}. Each contestant has the same photographs, "
        f"{first.backbone} with its published weights at {first.size_px} px, the whole machine, and {first.minutes:g} "
        f"minutes up to its final model; {seeds} seeds. What a person would know beforehand (how long an epoch, or a "
        "trial, takes) is measured beside that. Minutes taken are the longest of the seeds'.",
        f"    {command}",
    ]
    for folder in folders:
        of_folder = [run for run in runs if run.folder == folder]
        parts += [f"## {folder}", table(of_folder), "\n".join(_said(of_folder))]
    parts += [f"Skipped: {CONTESTANTS[name].title} ({reason})." for name, reason in skipped.items()]
    parts += ["## Figures", "\n".join(f"    {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def table(runs: Sequence[Run]) -> str:
    """The contestants of one folder as a table in Markdown."""
    by_name = _by_contestant(runs)
    rows = [
        "| | test top-1 | each seed | minutes | ours is ahead by (points) | 95 % over seeds | over photographs |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in by_name.items():
        failed = [f"seed {run.seed} failed: {run.failed}" for run in each if run.failed]
        scored = [run for run in each if not run.failed]
        cells = [CONTESTANTS[name].title, _scores(each)]
        cells.append(", ".join([*(f"{run.top1:.4f}" for run in scored), *failed]))
        cells.append(f"{max(run.seconds for run in scored) / 60:.1f}" if scored else "–")
        cells += ["–"] * 3 if name == OURS or _lead(by_name, OURS, name) is None else _cells(by_name[OURS], each)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def machine() -> str:
    """Processor, cores, graphics card and versions, for a page."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    processor = (models or [platform.processor() or platform.machine()])[0]
    return f"{os.cpu_count()} cores of {processor}, {gpu}; {', '.join(versions)}"


def _by_contestant(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by contestant, in the order of CONTESTANTS."""
    runs = list(runs)
    grouped = {name: [run for run in runs if run.contestant == name] for name in CONTESTANTS}
    return {name: each for name, each in grouped.items() if each}


def _peers(by_name: Mapping[str, Sequence[Run]]) -> list[str]:
    return [name for name in by_name if not CONTESTANTS[name].is_ours]


def _lead(by_name: Mapping[str, Sequence[Run]], ours: str, theirs: str) -> float | None:
    """Points; None if a run of either has failed."""
    if ours not in by_name or any(run.failed for name in (ours, theirs) for run in by_name[name]):
        return None
    return difference(by_name[ours], by_name[theirs]).points


def _cells(ours: Sequence[Run], theirs: Sequence[Run]) -> list[str]:
    found = difference(ours, theirs)
    halves = (found.over_seeds, found.over_photographs)
    intervals = ["–" if half is None else f"{found.points - half:+.1f} … {found.points + half:+.1f}" for half in halves]
    return [f"{found.points:+.1f}", *intervals]


def _scores(runs: Sequence[Run]) -> str:
    """Mean ± sd of the runs that did not fail."""
    scores = [run.top1 for run in runs if not run.failed]
    if not scores:
        return "failed"
    mean, sd = mean_and_sd(scores)
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def _said(runs: Sequence[Run]) -> list[str]:
    """What each run says of itself, as a list in Markdown."""
    return [f"- {run.contestant}, seed {run.seed}: {run.said}" for run in runs if run.said]


def _marks(run: Run) -> np.ndarray:
    return np.array([float(mark) for mark in run.correct])


def _figure_name(folder: str) -> str:
    return re.sub(r"\s+", "_", folder)
