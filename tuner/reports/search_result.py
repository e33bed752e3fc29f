"""The result of a search: for other programs as JSON, for a script as an object, for a person as lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import AliasChoices, Field

from trainables.frozen import Frozen
from trainables.metrics import MetricValue
from tuner.experiment.objective import LABELS, ObjectiveName
from tuner.experiment.tree import by_short_name, short_names
from tuner.messages.invocation import command_line
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import clock, counted, spell_params, spell_scores
from tuner.record.baselines import BaselineRecord
from tuner.record.differences import Difference, seed_difference, spell_difference
from tuner.record.directory import RunDirectory
from tuner.record.events import ModelRegistered, TrialState
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.selection import best_trial, mean_and_sd, winner_of
from tuner.record.standings import retraining_scores
from tuner.reports.baseline_result import (
    BaselineResult,
    baseline_results,
    retraining_lines,
    validation_lines,
)
from tuner.reports.evaluation import MODEL_SEED, evaluations_of
from tuner.reports.redacted_record import redacted_events

if TYPE_CHECKING:
    import pandas as pd

    from tuner.experiment.search_experiment import SearchExperiment


BASELINE_WON = "no trial has a better validation score, so its model is the result"


class EnsembleOutcome(Frozen):
    """Ensemble of the winner's retrained networks, which is the model: the mean of their weights or probabilities."""

    mean_of: Literal["weights", "probabilities"]
    num_networks: int
    test_top1: float
    gain: Difference | None = None
    """Ensemble − single network on the test split, with Student's interval over the networks."""

    def __str__(self) -> str:
        gain = f": {spell_difference(self.gain, 'network')} over one of them" if self.gain is not None else ""
        return f"top-1 {self.test_top1:.4f} with the mean {self.mean_of} of {self.num_networks} networks{gain}"


class SearchResult(Frozen):
    """The end of a search. `--json` writes it under the same names; `trial_counts` is `trials` there.

    Scores outside of `baselines` are the best trial's, also where a baseline is the winner; those on validation are
    values of the `objective`, those on the test split are top-1. What belongs to the best trial is None or empty where
    no trial has trained every fold.

        result = SearchResult.model_validate_json(Path("result.json").read_bytes())
        print(result.val_top1, result.best_params)         # 0.9311 {'gamma_fe': 0.0214, 'alpha': 0.37}
        result.trials().sort_values("val_top1").tail(3)    # the three best trials, a row each
    """

    name: str
    directory: str
    """The run directory."""
    tracking_uri: str
    """The MLflow store in which it is recorded, without credentials."""
    best_trial: str | None = None
    best_params: dict[str, Any] = Field(default_factory=dict)
    """Values of the searched dimensions at the best trial, by the names that are displayed (`gamma_fe`)."""
    best_config: dict[str, Any] = Field(default_factory=dict)
    """The whole best configuration, nested as in the experiment file."""
    val_top1: float | None = None
    """Mean validation top-1 of the best trial over its folds."""
    fold_scores: list[float] = Field(default_factory=list)
    """Value of the objective in each fold of the best trial."""
    objective: ObjectiveName = "top1"
    """Metric that was optimised."""
    val_score: float | None = None
    """Mean of the objective over the folds of the best trial; a log loss is positive, and the lower, the better."""
    val_metrics: dict[str, float] = Field(default_factory=dict)
    """Mean of every metric over the folds of the best trial, by name; top-1 alone in records of older versions."""
    kept_share: float = 1.0
    """Share of their steps after which the folds of the best trial were scored, on average: 1 unless
    `search.keep: best`."""
    test_scores: dict[str, float] = Field(default_factory=dict)
    """Test score of each retraining, by its seed."""
    test_top1_mean: float | None = None
    test_top1_sd: float | None = None
    """Sample standard deviation; None of fewer than two retrainings."""
    ensemble: EnsembleOutcome | None = None
    """The model that was made of all retrained networks of the winner, where `retrain.ensemble` asks for it."""
    metrics: dict[str, dict[str, dict[str, MetricValue]]] = Field(default_factory=dict)
    """Model (`trial-0005`, `linear_probe`) → `validation` (out of fold) or `test` (of the model: the ensemble, or else
    seed 0) → metric → value with the 95 % interval that counts the examples."""
    baselines: dict[str, BaselineResult] = Field(default_factory=dict)
    """What the best trial is compared with, by name: `linear_probe`, `fine_tuning`."""
    winner: str | None = None
    """Best trial or baseline with the best validation score, whose model is registered: `trial-0005` or
    `linear_probe`."""
    trial_counts: dict[str, int] = Field(
        default_factory=dict, validation_alias=AliasChoices("trial_counts", "trials"), serialization_alias="trials"
    )
    """Number of trials in each state."""
    why: str = ""
    """Why no more trials were started."""
    folds_trained: float = 0
    """Fold trainings of the trials that did not fail; a fold that was left in its middle counts in part."""
    folds_planned: int = 0
    """What they would have been without racing."""
    model_uri: str | None = None
    """The registered model in MLflow, with its version: `models:/smile-digits/3`."""
    model_seed: int | None = None
    """Seed of the retraining whose network the model is; None of an ensemble, and where there is no model."""
    model_test_top1: float | None = None
    """Test score of the model itself, where `test_top1_mean` is of all retrainings."""
    data_notes: tuple[str, ...] = ()
    """Sentences about what makes scores optimistic: near twins across folds, files in both train and test."""
    report: str | None = None
    """The file of the report; None where it was not written."""
    seconds: float = 0.0

    def write(self, file: Path) -> None:
        """Writes the result as JSON. Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")

    def trials(self) -> pd.DataFrame:
        """Reads every trial from the record in `directory`, one row a trial, in the order of their numbers.

        Columns: `number`, `state`, the mean of each metric as `val_top1`, `val_log_loss` … (NaN unless complete), the
        searched dimensions by the names that are displayed, `fold_1` … the objective in the folds that were trained,
        `duration_s` of these folds, and `reason`.

            result.trials().plot.scatter("gamma_fe", "val_top1", logx=True)

        Raises:
            BadInput: where the record cannot be read; see `read_events`.
        """
        import pandas as pd

        directory = RunDirectory(Path(self.directory))
        history = SearchHistory.of(redacted_events(directory), directory.journal)
        started = history.last_started
        names = short_names({} if started is None else started.dimensions)
        num_folds = 0 if started is None else started.num_trial_folds
        trials = [trial for _, trial in sorted(history.trials.items())]
        metrics = list(dict.fromkeys(["top1", *(name for trial in trials for name in trial.metrics)]))
        rows = [_row(trial, names, num_folds, metrics) for trial in trials]
        folds = [f"fold_{k}" for k in range(1, num_folds + 1)]
        means = [f"val_{name}" for name in metrics]
        columns = ["number", "state", *means, *names.values(), *folds, "duration_s", "reason"]
        return pd.DataFrame(rows, columns=columns)


def search_result_of(
    space: SearchExperiment,
    directory: RunDirectory,
    history: SearchHistory,
    tracking_uri: str,
    duration_s: float,
    why: str = "",
) -> SearchResult:
    """Collects the result from the history; `why` says why no more trials were started."""
    raced = [trial for trial in history.trials.values() if trial.state in ("complete", "pruned")]
    best = best_trial(history.trials.values())
    winner = winner_of(history.trials.values(), history.baselines.values())
    return SearchResult(
        name=space.name,
        objective=space.search.objective,
        directory=str(directory),
        tracking_uri=without_credentials(tracking_uri),
        trial_counts={state: history.count(state) for state in get_args(TrialState)},
        why=why,
        folds_trained=round(sum(trial.num_trained for trial in raced), 2),
        folds_planned=space.search.num_trial_folds * len(raced),
        seconds=duration_s,
        baselines=baseline_results(history, space.search.folds),
        metrics=_metrics_of(directory, history),
        ensemble=None if winner is None else _ensemble_of(winner, history),
        winner=winner.name if isinstance(winner, BaselineRecord) else None if winner is None else winner.trial_id,
        data_notes=_data_notes(history),
        **({} if winner is None else _of_model(history.registered(winner.key))),
        **({} if best is None else _of_best(best, space, history)),
    )


def _of_best(best: TrialRecord, space: SearchExperiment, history: SearchHistory) -> dict[str, Any]:
    tests = {str(seed): score for seed, score in retraining_scores(history, best).items()}
    mean, sd = mean_and_sd(tests.values()) if tests else (None, None)
    return {
        "best_trial": best.trial_id,
        "best_params": by_short_name(best.params, space.short_names),
        "best_config": space.trial_config(best.params).model_dump(mode="json"),
        "val_score": best.value,
        "fold_scores": best.fold_values,
        "val_top1": best.val_top1,
        "val_metrics": best.metrics,
        "kept_share": best.kept_share,
        "test_scores": tests,
        "test_top1_mean": mean,
        "test_top1_sd": sd,
    }


def _data_notes(history: SearchHistory) -> tuple[str, ...]:
    findings = history.data_findings
    return () if findings is None else tuple(filter(None, (findings.grouping, *findings.notes)))


def _metrics_of(directory: RunDirectory, history: SearchHistory) -> dict[str, dict[str, dict[str, MetricValue]]]:
    found: dict[str, dict[str, dict[str, MetricValue]]] = {}
    for each in evaluations_of(directory, history):  # the ensemble comes after the seeds, of which the first counts
        of_model = found.setdefault(each.model, {})
        if each.network in ("", f"seed {MODEL_SEED}", "ensemble"):
            of_model[each.split] = each.metrics
    return found


def _of_model(model: ModelRegistered | None) -> dict[str, Any]:
    return {} if model is None else {f"model_{key}": getattr(model, key) for key in ("uri", "seed", "test_top1")}


def _ensemble_of(winner: TrialRecord | BaselineRecord, history: SearchHistory) -> EnsembleOutcome | None:
    made = history.ensemble(winner.key)
    if made is None or len(made.seeds) < 2:
        return None
    singles = retraining_scores(history, winner)
    gain = seed_difference(dict.fromkeys(made.seeds, made.test_top1), singles)
    return EnsembleOutcome(mean_of=made.mean_of, num_networks=len(made.seeds), test_top1=made.test_top1, gain=gain)


def _row(trial: TrialRecord, names: dict[str, str], num_folds: int, metrics: Sequence[str]) -> dict[str, Any]:
    scores = [*trial.fold_values, *[math.nan] * num_folds][:num_folds]
    return {
        "number": trial.number,
        "state": trial.state,
        **{f"val_{name}": trial.metrics.get(name, math.nan) for name in metrics},
        **by_short_name(trial.params, names),
        **{f"fold_{k}": score for k, score in enumerate(scores, start=1)},
        "duration_s": trial.training_duration_s,
        "reason": trial.reason,
    }


def closing_lines(result: SearchResult, history: SearchHistory) -> Iterator[str]:
    """Yields the end of a search for a person, and why trials failed."""
    counts = ", ".join(f"{count} {state}" for state, count in result.trial_counts.items() if count)
    why = f" ({result.why})" if result.why else ""
    yield f"{result.name}: {counts or 'no'} trials in {clock(result.seconds)}{why}"
    if num_running := result.trial_counts.get("running"):
        yield f"  left open      {num_running} trials: the same command with --resume goes on with them"
    if num_pruned := result.trial_counts.get("pruned"):
        saved = f"{result.folds_trained:g} of {result.folds_planned} folds trained"
        yield f"  racing         {saved}: {num_pruned} trials were stopped early"
    if result.best_trial is None:
        yield "no trial was evaluated on every fold, so there is no best configuration"
    else:
        scores = spell_scores(result.fold_scores)
        found = spell_params(result.best_params) or "nothing was searched"
        yield f"  best           {result.best_trial}: {found}"
        label, top1 = LABELS[result.objective], "" if result.objective == "top1" else f", top-1 {result.val_top1:.4f}"
        folds = f"over {len(result.fold_scores)} folds ({scores})"
        yield f"  validation     {label} {result.val_score:.4f} {folds}{top1}"
        if result.kept_share < 1:
            share = f"{result.kept_share:.0%} of the steps on average"
            yield f"  kept           the best weights of each fold, after {share}: its score is optimistic"
    yield from validation_lines(result.baselines)
    yield from _test_lines(result)
    yield from _metric_lines(result)
    yield from (f"  data           {note}" for note in result.data_notes)
    if result.winner in result.baselines:
        label = result.baselines[result.winner].label
        yield f"  winner         the {label}: {BASELINE_WON}"
    store = ("--tracking-uri", result.tracking_uri)
    if result.model_uri:
        yield f"  model          {result.model_uri}{_which_model(result)}"
        yield f"                 {command_line('predict', '--model', result.model_uri, *store, 'photo.jpg')}"
    yield f"  record         {result.directory}"
    yield f"  see it         {command_line('ui', *store)}"
    for trial in history.trials.values():
        if trial.state == "failed":
            yield f"  failed         {trial.trial_id}: {trial.reason}"


def _metric_lines(result: SearchResult) -> Iterator[str]:
    """Yields the further metrics of the winner, of the test split if it was tested."""
    splits = result.metrics.get(result.winner or "", {})
    for split in ("test", "validation"):
        if split in splits:
            words = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "log_loss": "log loss"}
            values = ", ".join(f"{word} {splits[split][name].value:.4f}" for name, word in words.items())
            top1 = splits[split]["top1"]
            yield f"  scores         top-1 {top1} on {split}: {values}"
            return


def _which_model(result: SearchResult) -> str:
    """Says which of the retrained networks the model is, and what that one scored; "" of an old record."""
    if result.model_test_top1 is None:
        return ""
    which = "the ensemble" if result.model_seed is None else f"the network of seed {result.model_seed}"
    return f", {which}: test top-1 {result.model_test_top1:.4f}"


def _test_lines(result: SearchResult) -> Iterator[str]:
    if result.test_top1_mean is not None:
        spread = f" ± {result.test_top1_sd:.4f}" if result.test_top1_sd is not None else ""
        seeds = counted(len(result.test_scores), "seed")
        yield f"  test           top-1 {result.test_top1_mean:.4f}{spread} ({seeds}, full training split)"
    elif any(baseline.test_scores for baseline in result.baselines.values()):
        yield "  test           (full training split)"
    yield from retraining_lines(result.baselines)
    if result.ensemble is not None:
        yield f"  ensemble       {result.ensemble}; it is the model"
