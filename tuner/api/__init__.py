"""Python API: `from tuner import run_search, run_comparison` in a notebook or a script."""
