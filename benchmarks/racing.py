"""What racing saves and what it costs: `python -m benchmarks.racing`.

Replays recordings of real searches, in which every trial trained every fold, in random orders under each rule: how many
fold trainings it would have taken, how often the same trial would have won, and what was lost otherwise. Then the same
of simulated searches, where the true quality of a trial is known, too.

    python -m benchmarks.racing --record experiments/digits/20261124-142911 benchmarks/recordings/digits.json

makes a recording of a search without racing. Trials of equal mean score are common where validation parts are small; a
replay has the same winner where the winner's score is equal to that of the best trial of all, and only then. ASHA asks
for scores within a fold, which recordings lack, and is simulated only.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from trainables.results import FoldResult
from trainables.seeding import rng_for
from tuner.experiment.settings import AshaRacing, FoldRacing, MedianRacing, NoRacing, Racing
from tuner.record.directory import RunDirectory
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.scores import RungScore
from tuner.record.selection import best_trial
from tuner.record.trial_totals import TrialTotals
from tuner.scheduling.racing import rungs, stop_reason_after_fold, stop_reason_at_rung

RECORDINGS = Path(__file__).parent / "recordings"
LIMIT_SAVED, LIMIT_SAME = 1.8, 0.95

RULES: dict[str, Racing] = {"none": NoRacing(), "folds": FoldRacing(), "median": MedianRacing()}
SWEEP = {
    f"folds, margin {margin:g}, min_complete {least}": FoldRacing(margin=margin, min_complete=least)
    for least in (3, 5)
    for margin in (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)
}

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """What every trial would score: trials × folds; where known trials × rungs of the first fold, and their quality
    without noise."""

    scores: Scores
    at_rungs: Scores | None = None
    quality: Scores | None = None


class Replay(NamedTuple):
    """Of one order: fold trainings saved (×), whether the best score won, and what was lost (top-1; true quality)."""

    saved: float
    same: bool
    regret: float
    true_regret: float


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables, or writes a recording. Ends with one line a figure of the default rule, `figure value limit
    ok|short`; exit code 1 where one is short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.racing")
    parser.add_argument("--record", nargs=2, type=Path, metavar=("RUN_DIR", "FILE"), help="make a recording, and end")
    parser.add_argument("--recordings", nargs="*", type=Path, default=sorted(RECORDINGS.glob("*.json")))
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--searches", type=int, default=400, help="simulated ones of each setting")
    parser.add_argument("--sweep", action="store_true", help="other margins, too")
    arguments = parser.parse_args(argv)
    if arguments.record:
        return record(*arguments.record)
    rules = RULES | (SWEEP if arguments.sweep else {})
    console = Console(highlight=False, width=120)
    figures: list[tuple[str, float, float]] = []
    for file in arguments.recordings:
        scores_TF = read_recording(file)
        whole, num_folds = scores_TF.shape
        for num_trials, at_once in ((whole, 1), (whole, 2), (whole // 2, 1)):
            size = f"{num_trials} of {whole} trials × {num_folds} folds, {at_once} at once"
            table = table_of(f"{file.stem}: {size}, {arguments.orders} orders", in_top1=True)
            for name, rule in rules.items():
                replays = list(in_orders(scores_TF, rule, at_once, arguments.orders, num_trials))
                add_row(table, name, replays, in_top1=True)
                if name == "folds" and num_trials == whole:
                    label = f"racing-{file.stem}-{at_once}-at-once"
                    figures.append((f"{label}-saved", _saved(replays), LIMIT_SAVED))
                    figures.append((f"{label}-same-winner", _same(replays), LIMIT_SAME))
            console.print(table, "")
    if arguments.searches:
        simulated(console, rules | {"asha": AshaRacing()}, arguments.searches)
    for figure, value, limit in figures:
        print(f"{figure} {value:.3f} {limit:.2f} {'ok' if value >= limit else 'short'}")
    return int(any(value < limit for _, value, limit in figures))


def simulated(console: Console, rules: dict[str, Racing], num_searches: int) -> None:
    """Score = quality of the trial (sd 1) + difficulty of the fold + noise, all Gaussian; 50 trials, 3 folds. A score
    at a rung has further noise, with a variance of 0.5 · (1 − share of the fold)."""
    for noise_sd in (0.1, 0.3, 0.5, 1.0):
        for fold_sd in (0.3, 1.0):
            title = f"simulated: noise sd {noise_sd:g}, fold sd {fold_sd:g}, {num_searches} searches; unit: trials' sd"
            table = table_of(title, in_top1=False)
            for name, rule in rules.items():
                searches = (draw(noise_sd, fold_sd, number) for number in range(num_searches))
                add_row(table, name, [replay(trials, rule, 1) for trials in searches], in_top1=False)
            console.print(table, "")


def draw(noise_sd: float, fold_sd: float, number: int, num_trials: int = 50, num_folds: int = 3) -> Trials:
    """One simulated search; equal numbers have equal draws, whatever the rule."""
    rng = rng_for(number, "simulated search", num_trials, num_folds)
    true_T = rng.normal(size=num_trials)
    fold_F = fold_sd * rng.normal(size=num_folds)
    scores_TF = true_T[:, None] + fold_F + noise_sd * rng.normal(size=(num_trials, num_folds))
    shares = list(rungs(AshaRacing(), num_steps=90).values())
    at_rungs = [scores_TF[:, 0] + (0.5 * (1 - share)) ** 0.5 * rng.normal(size=num_trials) for share in shares]
    return Trials(scores_TF, np.stack(at_rungs, axis=1), true_T)


def in_orders(scores_TF: Scores, rule: Racing, at_once: int, num_orders: int, num_trials: int) -> Iterator[Replay]:
    """Replays of so many of the trials, in random orders; order i is the same for every rule. With fewer than all, the
    winner changes from order to order."""
    for number in range(num_orders):
        order = rng_for(number, "order of trials").permutation(len(scores_TF))[:num_trials]
        yield replay(Trials(scores_TF[order]), rule, at_once)


def replay(trials: Trials, rule: Racing, at_once: int) -> Replay:
    """A search under `rule`, `at_once` trials side by side, every fold taking the same time."""
    scores_TF = trials.scores
    num_trials = len(scores_TF)
    known: list[TrialRecord] = []
    totals = TrialTotals()
    running: list[TrialRecord] = []
    while len(known) < num_trials or running:
        while len(running) < at_once and len(known) < num_trials:
            known.append(TrialRecord(len(known), {}, 0.0))
            running.append(known[-1])
            totals.start(known[-1])
        for trial in running:
            _train_fold(trial, trials, rule, totals)
            if trial.state != "running":
                totals.end(trial)
        running = [trial for trial in running if trial.state == "running"]
    winner = best_trial(known)
    assert winner is not None
    means_T = scores_TF.mean(1)
    regret = float(means_T.max() - means_T[winner.number])
    true_T = means_T if trials.quality is None else trials.quality
    true_regret = float(true_T[means_T.argmax()] - true_T[winner.number])
    trained = sum(trial.num_trained for trial in known)
    return Replay(scores_TF.size / trained, regret < 1e-9, regret, true_regret)


def _train_fold(trial: TrialRecord, trials: Trials, rule: Racing, totals: TrialTotals) -> None:
    num_folds = trials.scores.shape[1]
    reason = None
    if not trial.folds and trials.at_rungs is not None:
        for score, (step, share) in zip(trials.at_rungs[trial.number], rungs(rule, num_steps=90).items(), strict=False):
            trial.rungs.append(RungScore(fold=1, step=step, share=share, val_top1=float(score)))
            totals.reach_rung(trial, trial.rungs[-1])
            reason = reason or stop_reason_at_rung(rule, trial, totals, num_folds)
            if reason is not None:
                trial.state = "pruned"
                return
    number = len(trial.folds)
    trial.folds.append(FoldResult(number + 1, float(trials.scores[trial.number, number]), duration_s=0.0))
    totals.finish_fold(trial.folds[-1])
    if len(trial.folds) == num_folds:
        trial.state = "complete"
    elif stop_reason_after_fold(rule, trial, totals, num_folds) is not None:
        trial.state = "pruned"


def table_of(title: str, in_top1: bool) -> Table:
    """The columns; true regret is known of simulated searches only."""
    table = Table(title=title, title_justify="left", min_width=len(title) + 2, box=None, padding=(0, 2, 0, 0))
    for heading in (
        "rule",
        "saved ×",
        "same winner",
        "mean regret",
        "max regret",
        *([] if in_top1 else ["true regret"]),
    ):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    return table


def add_row(table: Table, name: str, replays: Sequence[Replay], in_top1: bool) -> None:
    """`saved` is a ratio of sums: what the searches together would have trained, over what they did."""
    regrets = [r.regret for r in replays]
    cells = [f"{_saved(replays):.2f}", f"{_same(replays):.1%}", f"{fmean(regrets):.4f}", f"{max(regrets):.4f}"]
    table.add_row(name, *cells, *([] if in_top1 else [f"{fmean(r.true_regret for r in replays):+.4f}"]))


def _saved(replays: Sequence[Replay]) -> float:
    return 1 / fmean(1 / r.saved for r in replays)


def _same(replays: Sequence[Replay]) -> float:
    return fmean(r.same for r in replays)


def record(run: Path, file: Path) -> int:
    """Writes the parameters and fold scores of a run's complete trials, with what made them."""
    directory = RunDirectory(run)
    history = SearchHistory.read(directory.journal)
    environment = json.loads(directory.environment.read_text(encoding="utf-8"))
    complete = [trial for trial in history.trials.values() if trial.state == "complete"]
    space = {} if history.started is None else history.started.space
    recording = {
        "command": re.sub(r"/\S*/(search_spaces/\S+)", r"\1", environment["command"]),
        "packages": environment["packages"],
        "space": {section: said for section, said in space.items() if section not in ("tracking", "resources")},
        "trials": [{"params": trial.params, "fold_scores": trial.fold_scores} for trial in complete],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(recording, indent=1) + "\n", encoding="utf-8")
    print(f"{len(complete)} complete trials of {len(history.trials)} → {file}")
    return 0


def read_recording(file: Path) -> Scores:
    """The scores of a recording."""
    recording = json.loads(file.read_text(encoding="utf-8"))
    return np.array([trial["fold_scores"] for trial in recording["trials"]])


if __name__ == "__main__":
    raise SystemExit(main())
