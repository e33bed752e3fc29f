"""What else one would write: the same search without this project, as the documentation of its parts teaches.

    tune_optuna.py     Ray Tune, OptunaSearch, ASHA and MLflowLoggerCallback
    optuna_joblib.py   Optuna alone, in joblib's processes

Both train through `usual.py`: ImageFolder, DataLoader and a loop. `python -m benchmarks.against_peers` runs them.
"""
