"""The service's own sections of an experiment: search, resources, tracking, retrain."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from trainables.frozen import Frozen
from tuner.messages.redaction import without_credentials

Sampler = Literal["tpe", "random", "gp", "cmaes"]


class NoRacing(Frozen):
    """Every trial trains all of its folds."""

    rule: Literal["none"] = "none"


class FoldRacing(Frozen):
    """After each fold, a trial that lies further behind the best one on these folds than noise explains is stopped."""

    rule: Literal["folds"] = "folds"
    margin: NonNegativeFloat = 1.25
    """How far behind: in standard deviations of the mean difference of two equally good trials on as many folds."""
    min_complete: Annotated[int, Field(ge=2)] = 3
    """Complete trials before the first may be stopped; the noise is estimated from the better half of them, and from so
    many at least."""


class MedianRacing(Frozen):
    """After each fold, a trial below the median of what the complete ones had after as many folds is stopped."""

    rule: Literal["median"] = "median"
    min_complete: Annotated[int, Field(ge=2)] = 3


class AshaRacing(Frozen):
    """Asynchronous successive halving over the steps of the first fold (Li et al., 2020): at each rung, which is a
    number of steps, a trial goes on if it is among the best 1/`reduction_factor` of those that have come so far."""

    rule: Literal["asha"] = "asha"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    num_rungs: PositiveInt = 2
    """Rungs at `num_steps` / `reduction_factor`^k, k = `num_rungs` … 1."""


Racing = Annotated[NoRacing | FoldRacing | MedianRacing | AshaRacing, Field(discriminator="rule")]


class Plateau(Frozen):
    """The search ends once the best score has not risen by more than `min_gain` (top-1, in [0, 1]) for so many trials
    that ended complete or were stopped as hopeless."""

    trials: PositiveInt
    min_gain: NonNegativeFloat = 0.0


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class SearchSettings(Frozen):
    """How the dimensions are searched, when a trial is hopeless, and what ends it all."""

    trials: PositiveInt = 20
    folds: Annotated[int, Field(ge=2)] = 3
    sampler: Sampler = "tpe"
    seed: NonNegativeInt = 0
    """Root of every random draw: folds, batches, proposals, retrainings."""
    concurrency: PositiveInt | Literal["auto"] = "auto"
    """Trials at once; `auto` is what the cluster has room for. With 1, two runs give the same trials."""
    folds_in_parallel: Literal[True, False, "auto"] = "auto"
    """Whether places that no trial is left for train later folds of those that run, ahead of their turn; `auto`: where
    there are more places than trials. Scores are the same, but what racing then stops has trained them for nothing."""
    first_points: tuple[dict[str, Any], ...] = ()
    """Known-good settings that are tried first, by the dimensions' names; what one leaves out, the sampler adds. They
    are never stopped early."""
    warm_start: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    """Earlier searches to learn from: experiment directories, `name` or `name/run` below `tracking.directory`, or
    MLflow ids of search runs."""
    racing: Racing = FoldRacing()
    """When a trial is stopped before its last fold. Only a trial that trained all of them can win."""
    timeout_s: PositiveFloat | None = None
    """Wall-clock budget of this command's trials; the retraining comes on top. Trials that run stop after the fold
    that they are at, and go on with `--resume`."""
    max_fold_trainings: PositiveInt | None = None
    """Budget in trainings of a fold, over all trials; at least `folds`."""
    plateau: Plateau | None = None
    fold_timeout_s: PositiveFloat | None = None
    """Limit of one fold; a trial that exceeds it hangs, and fails."""
    checkpoint_period_s: PositiveFloat | None = 30.0
    """How often a fold in training is written to disk, to go on from there after a crash; None: never."""

    def takes_folds_ahead(self, places: int, trials: int) -> bool:
        """Whether folds are trained in parallel where so many places and so many trials are asked for."""
        return places > trials if self.folds_in_parallel == "auto" else self.folds_in_parallel

    def folds_at_once(self, places: int, trials: int) -> int:
        """How many trainings of a fold there are at once, at most."""
        return min(places, trials * (self.folds if self.takes_folds_ahead(places, trials) else 1))

    @field_validator("max_fold_trainings")
    @classmethod
    def _one_whole_trial(cls, budget: int | None, before: ValidationInfo) -> int | None:
        folds = before.data.get("folds")  # missing where it was refused itself
        if budget is not None and folds is not None and budget < folds:
            raise ValueError(f"a budget of at least the {folds} folds of one trial, got {budget}")
        return budget


def _ray_can_divide(amount: float) -> float:
    if amount > 1 and amount != int(amount):
        raise ValueError(f"a number that is whole where it is above 1, got {amount}")
    return amount


Amount = Annotated[float, AfterValidator(_ray_can_divide)]


class ResourceSettings(Frozen):
    """What one trial asks of the cluster."""

    cpus: Annotated[Amount, Field(gt=0)] = 1
    """CPU cores, and threads, of a trial."""
    gpus: Annotated[Amount, Field(ge=0)] | Literal["auto"] = 0.0
    """Share of a GPU: 0.25 puts four trials on a card. `auto` measures what the largest setting needs, and grows where
    a trial runs out of memory. On a cluster without GPUs the trial runs on its CPUs, and says so."""


def _absolute(path: Path) -> Path:
    """A record of it is read in other folders than the one where the command was given."""
    return path.expanduser().resolve()


def _place(uri: str) -> str:
    if not re.match(r"[a-z][a-z0-9]*://.", uri) or "?" in uri or "@" in uri:
        expected = "s3://bucket/prefix (or gs://, file://) without credentials or options"
        raise ValueError(f"{expected}, got {without_credentials(uri)!r}")
    return uri.rstrip("/")


class TrackingSettings(Frozen):
    """Where the search is recorded."""

    uri: str | None = None
    """MLflow tracking URI; without it MLFLOW_TRACKING_URI, and without that `mlflow.db` in the working folder."""
    directory: Annotated[Path, Field(validate_default=True), AfterValidator(_absolute)] = Path("experiments")
    """Folder of the experiment directories, the durable record of every search."""
    mirror: Annotated[str, AfterValidator(_place)] | None = None
    """Where the directory is copied while the search runs, as `s3://bucket/prefix`: from there another machine can go
    on. Endpoint, region and credentials are the environment's."""
    registered_model: str | None = None
    """Name under which the retrained model is registered; the experiment's name if None."""


class RetrainSettings(Frozen):
    """What happens with the best configuration."""

    seeds: NonNegativeInt = 3
    """Trainings of it on the full training split, each with another seed; 0 leaves the retraining out."""


def tracking_uri(configured: str | None) -> str:
    """Where to record: `configured`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

    A sqlite path is made absolute, because trials and later commands run in other folders.
    """
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = _sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def _sqlite_file(uri: str) -> Path | None:
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match else None
