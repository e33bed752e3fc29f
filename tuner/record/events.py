"""Events of a journal, the durable record of a search or a comparison: one frozen model for each kind.

A journal is a text file of JSON lines, oldest first. Its first line is a `Header` with the format's number; each other
line is one of the models below, told apart by `event`. This file is the documentation of what is on disk. Parameters
of a trial are keyed by dotted path (`method.gamma_fe`); top-1 is in [0, 1], and metrics have their own values, whatever
the objective; times are Unix times, durations seconds.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainables.frozen import Frozen
from trainables.results import EnsembleResult, FoldResult, RetrainResult
from tuner.experiment.objective import Objective, objective_of
from tuner.experiment.precision import Precisions
from tuner.experiment.settings import Baseline
from tuner.record.comparison_events import CellFailed as CellFailed
from tuner.record.comparison_events import CellFinished as CellFinished
from tuner.record.comparison_events import ComparisonEnded as ComparisonEnded
from tuner.record.comparison_events import ComparisonStarted as ComparisonStarted
from tuner.record.comparison_events import RowSearched as RowSearched
from tuner.record.data_findings import DataFindings
from tuner.record.scores import FoldScore, RungScore
from tuner.record.timed import Outcome as Outcome
from tuner.record.timed import Params as Params
from tuner.record.timed import Timed

FORMAT = 1
"""Number of the journal's format; raised whenever a field's meaning changes."""

TrialState = Literal["running", "complete", "pruned", "failed"]
ProposalSource = Literal["first_point", "sampler"]


class Header(Frozen):
    """First line of every journal."""

    event: Literal["journal"] = "journal"
    format: int = FORMAT


class SearchStarted(Timed):
    """Start of a command's work on the search; one more for each `--resume`.

    `space` is the whole experiment as plain data, as in `space.yaml`; `dimensions` describes each dimension by dotted
    path. `row` and `column` are set for the search of a comparison's row. `training_length` is the share of the file's
    steps that trainings have, so that a trial fits into `search.minutes`; `space` has them shortened.
    """

    event: Literal["search_started"] = "search_started"
    name: str
    run: str
    space: dict[str, Any]
    dimensions: dict[str, str] = Field(default_factory=dict)
    row: str | None = None
    column: str | None = None
    training_length: float = 1.0

    @property
    def num_trial_folds(self) -> int:
        """Number of folds of a complete trial; 0 where the experiment does not say it."""
        search: dict[str, Any] = self.space.get("search", {})
        return int(search.get("folds", 0)) * int(search.get("repeats", 1))

    @property
    def objective(self) -> Objective:
        """Metric that the search optimises."""
        return objective_of(self.space)


class SearchEnded(Timed):
    """End of a command's work on the search. `why` is the reason; `best_trial` is None if no trial is complete.

    Scores are those of `best_trial`; test scores are means and sample standard deviations over its retrainings, if
    there were any. `best_baseline` is set if a baseline has a better validation score: its model is the registered one.
    """

    event: Literal["search_ended"] = "search_ended"
    outcome: Outcome
    why: str
    best_trial: int | None = None
    best_baseline: Baseline | None = None
    val_top1: float | None = None
    test_top1_mean: float | None = None
    test_top1_sd: float | None = None
    model_uri: str | None = None
    duration_s: float | None = None


class EarlierTrial(Frozen):
    """Trial of an earlier search that this one's sampler takes into account. `origin` is its name in messages."""

    origin: str
    params: Params
    state: TrialState
    reason: str = ""
    folds: tuple[FoldScore, ...] = ()
    rungs: tuple[RungScore, ...] = ()


class WarmStarted(Timed):
    """Warm start from earlier searches: trials for the sampler, points to try first, and lines for the user."""

    event: Literal["warm_started"] = "warm_started"
    trials: tuple[EarlierTrial, ...] = ()
    first_points: tuple[Params, ...] = ()
    notes: tuple[str, ...] = ()


class HardwareInspected(Timed):
    """Hardware that the command trains on: a GPU or a processor of each kind, with PyTorch, as a worker found it, and
    what `auto` means for its precisions. `precisions` are those of the first such event of a journal."""

    event: Literal["hardware_inspected"] = "hardware_inspected"
    devices: tuple[str, ...]
    precisions: Precisions


class DataExamined(Timed):
    """Examination of the data before the first trial."""

    event: Literal["data_examined"] = "data_examined"
    findings: DataFindings


class ShareMeasured(Timed):
    """Measured GPU requirement of a trial: `gpus` and `context` (CUDA's own) are fractions of a GPU, the rest bytes.

    `others_bytes` is what processes of others held. `accelerator` is the kind of the GPU where there are several, ""
    otherwise.
    """

    event: Literal["share_measured"] = "share_measured"
    gpus: float
    context: float
    step_bytes: int
    pixels_bytes: int
    context_bytes: int
    card_bytes: int
    others_bytes: int = 0
    accelerator: str = ""


class ShareGrown(Timed):
    """Increase of the GPU share to `gpus` for each process from now on, as `trial` ran out of memory; for those on GPUs
    of the kind `accelerator` alone, if it is one."""

    event: Literal["share_grown"] = "share_grown"
    gpus: float
    reason: str
    trial: int | None = None
    accelerator: str = ""


class BaselineStarted(Timed):
    """Start of a baseline, before the first trial, on the same `num_folds` folds as the trials."""

    event: Literal["baseline_started"] = "baseline_started"
    baseline: Baseline
    config: dict[str, Any]
    """Every leaf of its TrialConfig, by dotted path."""
    num_folds: int


class BaselineFoldFinished(Timed):
    """Result of a fold of a baseline. Folds end in any order."""

    event: Literal["baseline_fold_finished"] = "baseline_fold_finished"
    baseline: Baseline
    result: FoldResult


class BaselineFailed(Timed):
    """End of a baseline without a score: the experiment has none such, or a fold failed. It is not repeated."""

    event: Literal["baseline_failed"] = "baseline_failed"
    baseline: Baseline
    reason: str


class TrialStarted(Timed):
    """Start of a proposed trial. `attrs` are the sampler's attributes, from which its study is rebuilt."""

    event: Literal["trial_started"] = "trial_started"
    trial: int
    params: Params
    source: ProposalSource
    attrs: dict[str, Any] = Field(default_factory=dict)


class RungReached(Timed):
    """Score of a trial in the middle of a fold."""

    event: Literal["rung_reached"] = "rung_reached"
    trial: int
    rung: RungScore


class FoldAhead(Timed):
    """Result of a fold before an earlier one of its trial has ended; no stopping rule may use it yet."""

    event: Literal["fold_ahead"] = "fold_ahead"
    trial: int
    result: FoldResult


class FoldFinished(Timed):
    """Result of a trial's next fold."""

    event: Literal["fold_finished"] = "fold_finished"
    trial: int
    result: FoldResult


class TrialEnded(Timed):
    """End of a trial: complete, stopped early (`pruned`), or failed; `reason` says why it is not complete.

    `discarded` are the numbers of the folds that were trained, or in training, in vain.
    """

    event: Literal["trial_ended"] = "trial_ended"
    trial: int
    state: Literal["complete", "pruned", "failed"]
    reason: str = ""
    discarded: tuple[int, ...] = ()


class RetrainingFinished(Timed):
    """Training of the configuration of `trial` on the full training split, scored on the test split."""

    event: Literal["retraining_finished"] = "retraining_finished"
    trial: int
    result: RetrainResult


class RetrainingFailed(Timed):
    """Retraining that diverged; it would again with the same seed."""

    event: Literal["retraining_failed"] = "retraining_failed"
    trial: int
    seed: int
    reason: str


class BaselineRetrained(Timed):
    """Training of a baseline on the full training split, scored on the test split."""

    event: Literal["baseline_retrained"] = "baseline_retrained"
    baseline: Baseline
    result: RetrainResult


class BaselineRetrainingFailed(Timed):
    """Retraining of a baseline that diverged; it would again with the same seed."""

    event: Literal["baseline_retraining_failed"] = "baseline_retraining_failed"
    baseline: Baseline
    seed: int
    reason: str


class EnsembleTested(Timed):
    """Making of one model of the retrainings of `trial`, or of `baseline`, scored on the test split."""

    event: Literal["ensemble_tested"] = "ensemble_tested"
    trial: int | None = None
    baseline: Baseline | None = None
    result: EnsembleResult


class ModelRegistered(Timed):
    """Registration of the retrained network of `trial`, or of `baseline`, in MLflow.

    `uri` names the version, `models:/digits/3`. `seed` is the seed of its retraining, None of the ensemble of all, and
    `test_top1` what this network scored; journals of earlier versions have neither.
    """

    event: Literal["model_registered"] = "model_registered"
    trial: int | None = None
    baseline: Baseline | None = None
    uri: str
    seed: int | None = None
    test_top1: float | None = None


ResourceEvent = HardwareInspected | ShareMeasured | ShareGrown
BaselineEvent = BaselineStarted | BaselineFoldFinished | BaselineFailed | BaselineRetrained | BaselineRetrainingFailed
TrialEvent = TrialStarted | RungReached | FoldAhead | FoldFinished | TrialEnded
SearchEvent = (
    SearchStarted
    | SearchEnded
    | WarmStarted
    | DataExamined
    | ResourceEvent
    | BaselineEvent
    | TrialEvent
    | RetrainingFinished
    | RetrainingFailed
    | EnsembleTested
    | ModelRegistered
)
ComparisonEvent = ComparisonStarted | ComparisonEnded | RowSearched | CellFinished | CellFailed | ResourceEvent
Event = SearchEvent | ComparisonEvent


def trial_id(number: int) -> str:
    """Name of trial 7, for example: `trial-0007`. Trials are counted from 0, as in Optuna."""
    return f"trial-{number:04d}"
