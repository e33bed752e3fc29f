"""What a search found: for a person, and for other programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tuner.experiment.search_experiment import SearchExperiment
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import clock, spell_params
from tuner.record.history import History, TrialState
from tuner.record.selection import best_trial, mean_and_sd


@dataclass(frozen=True)
class SearchResult:
    """The end of a search; `--json` writes it as it stands here. Scores are top-1 in [0, 1]."""

    name: str
    directory: str
    tracking_uri: str
    """Where it is recorded, without credentials."""
    best_trial: str | None = None
    best_params: dict[str, Any] = field(default_factory=dict)
    """The searched dimensions at the best trial, by short names."""
    best_config: dict[str, Any] = field(default_factory=dict)
    """The whole best configuration, nested as in the experiment file."""
    val_top1: float | None = None
    fold_scores: list[float] = field(default_factory=list)
    test_scores: dict[str, float] = field(default_factory=dict)
    """Retraining seed → test top-1."""
    test_top1_mean: float | None = None
    test_top1_sd: float | None = None
    trials: dict[str, int] = field(default_factory=dict)
    """State → number of trials."""
    why: str = ""
    """Why there were no more trials."""
    folds_trained: float = 0
    """Fold trainings of the trials that did not fail; a fold that was left in its middle counts in part."""
    folds_planned: int = 0
    """What they would have been without racing."""
    model_uri: str | None = None
    seconds: float = 0.0

    def write(self, file: Path) -> None:
        """Writes the outcome as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def search_result_of(
    space: SearchExperiment,
    directory: Path,
    history: History,
    tracking_uri: str,
    model_uri: str | None,
    seconds: float,
    why: str = "",
) -> SearchResult:
    """Reads the outcome off the journal."""
    shown_uri = without_credentials(tracking_uri)
    trials = {state: history.count(state) for state in get_args(TrialState)}
    raced = [trial for trial in history.trials.values() if trial.state in ("complete", "pruned")]
    known = SearchResult(
        name=space.name,
        directory=str(directory),
        tracking_uri=shown_uri,
        trials=trials,
        why=why,
        folds_trained=round(sum(trial.trained for trial in raced), 2),
        folds_planned=space.search.folds * len(raced),
        seconds=seconds,
    )
    best = best_trial(history.trials.values())
    if best is None:
        return known
    tests = {str(seed): event["test_top1"] for seed, event in history.retrainings(best.number).items()}
    mean, sd = mean_and_sd(tests.values()) if tests else (None, None)
    return replace(
        known,
        best_trial=best.trial_id,
        best_params=best.params,
        best_config=space.trial_config(best.params).model_dump(mode="json"),
        val_top1=best.val_top1,
        fold_scores=best.fold_scores,
        test_scores=tests,
        test_top1_mean=mean,
        test_top1_sd=sd,
        model_uri=model_uri,
    )


def closing_lines(outcome: SearchResult, history: History) -> Iterator[str]:
    """The end of a search for a person, and why trials failed."""
    counts = ", ".join(f"{count} {state}" for state, count in outcome.trials.items() if count)
    why = f" ({outcome.why})" if outcome.why else ""
    yield f"{outcome.name}: {counts or 'no'} trials in {clock(outcome.seconds)}{why}"
    if left_open := outcome.trials.get("running"):
        yield f"  left open      {left_open} trials: the same command with --resume goes on with them"
    if outcome.trials.get("pruned"):
        saved = f"{outcome.folds_trained:g} of {outcome.folds_planned} folds trained"
        yield f"  racing         {saved}: {outcome.trials['pruned']} trials were stopped early"
    if outcome.best_trial is None:
        yield "no trial was evaluated on every fold, so there is no best configuration"
    else:
        scores = " ".join(f"{score:.4f}" for score in outcome.fold_scores)
        found = spell_params(outcome.best_params) or "nothing was searched"
        yield f"  best           {outcome.best_trial}: {found}"
        yield f"  validation     top-1 {outcome.val_top1:.4f} over {len(outcome.fold_scores)} folds ({scores})"
    if outcome.test_top1_mean is not None:
        spread = f" ± {outcome.test_top1_sd:.4f}" if outcome.test_top1_sd is not None else ""
        seeds = f"{len(outcome.test_scores)} seed" + ("s" if len(outcome.test_scores) > 1 else "")
        yield f"  test           top-1 {outcome.test_top1_mean:.4f}{spread} ({seeds}, full training split)"
    if outcome.model_uri:
        yield f"  model          {outcome.model_uri}"
        store = shlex.quote(outcome.tracking_uri)
        yield f"                 python -m tuner.predict --model {outcome.model_uri} --tracking-uri {store} photo.jpg"
    yield f"  record         {outcome.directory}"
    yield f"  see it         python -m tuner.ui --tracking-uri {shlex.quote(outcome.tracking_uri)}"
    for trial in history.trials.values():
        if trial.state == "failed":
            yield f"  failed         {trial.trial_id}: {trial.reason}"
