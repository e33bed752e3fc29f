"""What else one would write: the same search without this project, as the documentation of its parts teaches.

    tune_optuna.py     Ray Tune, OptunaSearch, ASHA and MLflowLoggerCallback
    optuna_joblib.py   Optuna alone, in joblib's processes

Both train through `usual.py`: ImageFolder, DataLoader and a loop. `python -m benchmarks.against_peers` runs them.

And what a user would pick instead, for the best model in some minutes; `python -m benchmarks.quality` runs these, which
are given a `PhotoTask` and hand in the classes of the test photographs (`photographs.py`):

    frozen_features.py     logistic regression on the features of the frozen network
    fastai_fine_tune.py    fastai's fine_tune
    tuned_fine_tuning.py   Ray Tune, OptunaSearch, ASHA and MLflowLoggerCallback around plain fine-tuning
    searched.py            this project's own search, in this checkout or in another
"""
