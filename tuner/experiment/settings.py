"""The service's own sections of an experiment: search, resources, tracking, retrain."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainables.frozen import Frozen
from trainables.paths import PossiblePath
from tuner.experiment.objective import ObjectiveName
from tuner.messages.redaction import without_credentials

Sampler = Literal["tpe", "random", "gp", "cmaes"]
Baseline = Literal["linear_probe", "fine_tuning"]

DEFAULT_NUM_TRIALS = 20
"""Number of trials where the file says neither `trials` nor `minutes`."""


LONGEST_S = 1e8
"""Longest time that can be asked for, three years: what waits for a longer one may fail at once."""
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]


class NoRacing(Frozen):
    """Every trial trains all of its folds."""

    rule: Literal["none"] = "none"


class FoldRacing(Frozen):
    """Stops a trial after a fold if it is further behind the best one on these folds than noise explains."""

    rule: Literal["folds"] = "folds"
    margin: NonNegativeFloat = 1.25
    """How far behind, in standard deviations of the mean difference of two equally good trials on as many folds."""
    min_complete: Annotated[int, Field(ge=2)] = 3
    """Complete trials before the first may be stopped; the noise is estimated from the better half of them, but from
    at least so many."""


class MedianRacing(Frozen):
    """Stops a trial after a fold if it is below the median of the complete ones after as many folds."""

    rule: Literal["median"] = "median"
    min_complete: Annotated[int, Field(ge=2)] = 3
    """Complete trials before the first may be stopped."""


class AshaRacing(Frozen):
    """Asynchronous successive halving over the steps of the first fold (Li et al., 2020): at each rung, a number of
    steps, a trial continues if it is among the best 1/`reduction_factor` of those that have reached it."""

    rule: Literal["asha"] = "asha"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Divisor of the number of trials that continue at each rung."""
    num_rungs: PositiveInt = 2
    """Rungs at `num_steps` / `reduction_factor`^k, k = `num_rungs` … 1."""


Racing = Annotated[NoRacing | FoldRacing | MedianRacing | AshaRacing, Field(discriminator="rule")]


class Plateau(Frozen):
    """Ends the search once the best score has not improved by more than `min_gain`, in the unit of `search.objective`,
    for `trials` trials that ended complete or were stopped by racing."""

    trials: PositiveInt
    """Number of trials without a gain after which the search ends."""
    min_gain: NonNegativeFloat = 0.0
    """Smallest rise of the best score that counts as a gain."""


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class SearchSettings(Frozen):
    """The `search` section: sampler, folds, racing, budgets."""

    trials: PositiveInt | None = None
    """Largest number of trials: 20 if there are no `minutes`, either; None: as many as fit into them."""
    folds: PositiveInt = 3
    """Number of parts of the cross-validation; 1 with `data.validation: folder` alone."""
    objective: ObjectiveName = "top1"
    """Metric of the validation parts by which racing, sampler and selection compare trials. All metrics are recorded
    and reported, whichever is the objective."""
    keep: Literal["last", "best"] = "last"
    """Weights that a fold is scored with: those after its last step, or those at the best of eight points by the
    objective. The best of several scores of the same examples is optimistic; the retraining then trains as large a
    share of its steps as the folds of the best trial did on average."""
    repeats: PositiveInt | Literal["auto"] = "auto"
    """How often the folds are dealt anew; a trial trains `folds` × `repeats` of them, the same for all trials. `auto`
    is by the number of training images: the fewer there are, the less a fold can tell configurations apart."""
    baselines: tuple[Baseline, ...] = ("linear_probe", "fine_tuning")
    """What the best trial is compared with: the linear probe, and plain fine-tuning with as many steps. They are scored
    on the same folds before the first trial, and count in the budgets."""
    sampler: Sampler = "tpe"
    """Optuna's sampler that proposes the trials: a tree of Parzen estimators, random draws, a Gaussian process, or
    CMA-ES."""
    seed: NonNegativeInt = 0
    """Root of every random draw: folds, batches, proposals, retrainings."""
    concurrency: PositiveInt | Literal["auto"] = "auto"
    """Trials at once; `auto` is what the cluster has room for. With 1, two runs give the same trials."""
    folds_in_parallel: Literal[True, False, "auto"] = "auto"
    """Whether idle places train later folds of running trials ahead of time; `auto`: where there are more places than
    trials. Scores are the same, but the folds of a trial that racing then stops were trained in vain."""
    first_points: tuple[dict[str, Any], ...] = ()
    """Known-good points that are tried first and never stopped early. A point may be partial: the sampler completes it.
    Its keys are dotted paths; in a file the short names of the dimensions, too."""
    warm_start: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    """Earlier searches whose trials are evidence for this one: experiment directories, `name` or `name/run` below
    `tracking.directory`, or MLflow ids of search runs."""
    racing: Racing = FoldRacing()
    """When a trial is stopped before its last fold. Only a trial that trained all of them can win."""
    minutes: Annotated[float, Field(gt=0, le=LONGEST_S / 60)] | None = None
    """Wall-clock budget of this command in minutes: baselines, trials, retraining and registration. The retraining is
    estimated from the folds that were trained, and no trial or fold starts that would not leave the time for it. The
    number of trials then depends on the clock."""
    timeout_s: Seconds | None = None
    """Wall-clock budget of this command's trials, without the retraining. Running trials stop after their current fold
    and continue with `--resume`."""
    max_fold_trainings: PositiveInt | None = None
    """Budget in trainings of a fold, over baselines and trials; at least those of the baselines and of one trial."""
    plateau: Plateau | None = None
    """When the search ends because it no longer gains; None: never."""
    fold_timeout_s: Seconds | None = None
    """Limit of one fold; a trial that exceeds it is taken to hang, and fails."""
    checkpoint_period_s: Seconds | None = 30.0
    """How often a training fold is checkpointed, to continue from there after a crash; None: never."""

    @property
    def num_trial_folds(self) -> int:
        """Number of folds of a complete trial, `folds` × `repeats`. Raises ValueError as long as `repeats` is auto."""
        if self.repeats == "auto":
            raise ValueError("search.repeats is resolved when the experiment is checked: see Plan.space")
        return self.folds * self.repeats

    def takes_folds_ahead(self, places: int, trials: int | None) -> bool:
        """Whether folds are trained in parallel with so many places and trials (None: no limit)."""
        if self.folds_in_parallel == "auto":
            return trials is not None and places > trials
        return self.folds_in_parallel

    def folds_at_once(self, places: int, trials: int | None) -> int:
        """Returns the largest number of fold trainings at once."""
        if trials is None:
            return places
        return min(places, trials * (self.num_trial_folds if self.takes_folds_ahead(places, trials) else 1))

    @model_validator(mode="before")
    @classmethod
    def _some_end(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("trials") is None and given.get("minutes") is None:
            return {**given, "trials": DEFAULT_NUM_TRIALS}
        return given

    @field_validator("max_fold_trainings")
    @classmethod
    def _one_whole_trial(cls, budget: int | None, before: ValidationInfo) -> int | None:
        folds, repeats = before.data.get("folds"), before.data.get("repeats")  # missing where refused themselves
        if budget is None or folds is None:
            return budget
        baselines = before.data.get("baselines", ())
        least = folds * (repeats if isinstance(repeats, int) else 1) * (1 + len(baselines))
        if budget < least:
            others = f" and {len(baselines)} baselines (search.baselines: [] leaves them out)" if baselines else ""
            raise ValueError(f"a budget of at least the {least} folds of one trial{others}, got {budget}")
        return budget


RESOLUTION = 1e-4
"""Smallest share of a resource that Ray counts."""


def _ray_can_divide(amount: float) -> float:
    if 0 < amount < RESOLUTION:
        raise ValueError(f"a number of at least {RESOLUTION}, got {amount}")
    if amount > 1 and amount != int(amount):
        raise ValueError(f"a number that is whole where it is above 1, got {amount}")
    return amount


DIVISIBLE = AfterValidator(_ray_can_divide)
"""After the range, which a schema of the field then shows."""


def _of_one_gpu(gpus: float) -> float:
    if gpus > 1:
        raise ValueError(f"a share of one GPU (0 to 1: a trial trains on one), got {gpus:g}")
    return _ray_can_divide(gpus)


class ResourceSettings(Frozen):
    """The `resources` section: what one trial takes of the cluster."""

    cpus: Annotated[float, Field(gt=0), DIVISIBLE] = 1
    """CPU cores, and threads, of a trial."""
    gpus: Annotated[float, Field(ge=0), AfterValidator(_of_one_gpu)] | Literal["auto"] | None = None
    """Share of one GPU: with 0.25 four trials share it. `auto` measures what the largest setting needs, and is raised
    where a trial runs out of memory. On a cluster without GPUs trials run on its CPUs, which is reported. None is
    `auto` where there are GPUs, and 0 where there is none."""


def _absolute(path: Path) -> Path:
    """Makes a path absolute: its record is read in other folders than the command's."""
    return path.expanduser().resolve()


MIRRORS = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")
"""Kinds of places that pyarrow can write to."""


def _place(uri: str) -> str:
    kind, separator, rest = uri.partition("://")
    if kind not in MIRRORS or not separator or not rest or "?" in uri or "@" in uri:
        expected = "s3://bucket/prefix (or gs://, file://) without credentials or options"
        raise ValueError(f"{expected}, got {without_credentials(uri)!r}")
    return uri.rstrip("/")


MODEL_NAME = re.compile(r"\w(?:[\w. -]{0,198}[\w.-])?")


def _registry_name(name: str) -> str:
    """Refuses what MLflow's registry does, and what would be something else in `models:/<name>@champion`."""
    if not MODEL_NAME.fullmatch(name):
        expected = "a name of letters, digits, '.', '_', '-' and spaces, at most 200 long"
        raise ValueError(f"{expected}, got {without_credentials(name)!r}")
    return name


class TrackingSettings(Frozen):
    """The `tracking` section: where the search is recorded."""

    uri: str | None = None
    """MLflow tracking URI; without it MLFLOW_TRACKING_URI, and without that `mlflow.db` in the working folder."""
    directory: Annotated[PossiblePath, Field(validate_default=True), AfterValidator(_absolute)] = Path("experiments")
    """Folder of the experiment directories, the durable record of every search."""
    mirror: Annotated[str, AfterValidator(_place)] | None = None
    """Where the directory is copied while the search runs, as `s3://bucket/prefix`, so that another machine can resume
    it. Endpoint, region and credentials come from the environment."""
    registered_model: Annotated[str, AfterValidator(_registry_name)] | None = None
    """Name under which the retrained model is registered: letters, digits, `.`, `_`, `-` and spaces; the experiment's
    name if None."""


class RetrainSettings(Frozen):
    """The `retrain` section: trainings of the best configuration."""

    seeds: Annotated[int, Field(ge=0, le=1000)] = 3
    """Trainings on the full training split, each with another seed; 0 leaves the retraining out."""
    baselines: bool = True
    """Whether plain fine-tuning is trained so, too, for its test scores. The winner and the linear probe always are."""
    ensemble: bool = False
    """Whether the model is made of all retrained networks instead of the first: their weights are averaged where they
    started from the same probe with BatchNorm frozen and stayed together, so that the mean's loss on training examples
    is no higher than theirs; else their probabilities, which takes as long to predict as all of them do."""


TRACKING_URI = "MLFLOW_TRACKING_URI"
"""Environment variable with the store of an experiment that names none."""


def tracking_key(configured: str | None) -> str:
    """Returns what says the store: the key `tracking.uri`, or the environment variable. For messages."""
    return TRACKING_URI if not configured and os.environ.get(TRACKING_URI) else "tracking.uri"


def tracking_uri(configured: str | None) -> str:
    """Returns the tracking URI: `configured`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

    A sqlite path is made absolute, because trials and later commands run in other folders.
    """
    uri = configured or os.environ.get(TRACKING_URI) or "sqlite:///mlflow.db"
    file = _sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def _sqlite_file(uri: str) -> Path | None:
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match else None
