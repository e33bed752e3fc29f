"""Service for searches and comparisons: their records, cluster and tracking. Only it imports Ray, Optuna and MLflow.

    from tuner import run_search, run_comparison

is its Python API. Each of the names is imported when it is first used, so that the import of the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api.run import run_comparison, run_search

    __version__: str

__all__ = ["__version__", "run_comparison", "run_search"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in ("run_comparison", "run_search"):
        from tuner.api import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("smile-tuner")
    except PackageNotFoundError:
        return "0+unknown"  # code that is not installed, as a job's
