"""The Python API: the same experiments from a notebook or a script. `from tuner import run_search, run_comparison`."""
