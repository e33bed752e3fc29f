"""The service's own sections of an experiment: search, resources, tracking, retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from trainables.types import Frozen

Sampler = Literal["tpe", "random", "gp", "cmaes"]


class SearchSettings(Frozen):
    """How the dimensions are searched."""

    trials: PositiveInt = 20
    folds: Annotated[int, Field(ge=2)] = 3
    sampler: Sampler = "tpe"
    seed: NonNegativeInt = 0
    """Root of every random draw: folds, batches, proposals, retrainings."""
    concurrency: PositiveInt | Literal["auto"] = "auto"
    """Trials at once; `auto` is what the cluster has room for. With 1, two runs give the same trials."""
    first_points: tuple[dict[str, Any], ...] = ()
    """Known-good settings that are tried first, by the dimensions' names; what one leaves out, the sampler adds."""


def _ray_can_divide(amount: float) -> float:
    if amount > 1 and amount != int(amount):
        raise ValueError(f"an amount above 1 must be whole, got {amount}")
    return amount


class ResourceSettings(Frozen):
    """What one trial asks of the cluster."""

    cpus: Annotated[float, Field(gt=0), AfterValidator(_ray_can_divide)] = 1
    """CPU cores, and threads, of a trial."""
    gpus: Annotated[float, Field(ge=0), AfterValidator(_ray_can_divide)] = 0
    """Share of a GPU: 0.25 puts four trials on a card. On a cluster without GPUs the trial runs on its CPUs, and says
    so."""


def _absolute(path: Path) -> Path:
    """A record of it is read in other folders than the one where the command was given."""
    return path.expanduser().resolve()


class TrackingSettings(Frozen):
    """Where the search is recorded."""

    uri: str | None = None
    """MLflow tracking URI; without it MLFLOW_TRACKING_URI, and without that `mlflow.db` in the working folder."""
    directory: Annotated[Path, Field(validate_default=True), AfterValidator(_absolute)] = Path("experiments")
    """Folder of the experiment directories, the durable record of every search."""
    registered_model: str | None = None
    """Name under which the retrained model is registered; the experiment's name if None."""


class RetrainSettings(Frozen):
    """What happens with the best configuration."""

    seeds: NonNegativeInt = 3
    """Trainings of it on the full training split, each with another seed; 0 leaves the retraining out."""
