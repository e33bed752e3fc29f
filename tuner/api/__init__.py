"""The Python API: the same experiments from a notebook or a script. `from tuner import run_search, run_comparison`."""

from tuner.api.run import run_comparison, run_search

__all__ = ["run_comparison", "run_search"]
