"""The service: searches, their records, and the only home of Ray, Optuna and MLflow."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Computes `__version__` when it is read; importing the package imports nothing else."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("smile-tuner")
        except PackageNotFoundError:
            return "0+unknown"  # code that was copied to where it runs, as a job's is
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
