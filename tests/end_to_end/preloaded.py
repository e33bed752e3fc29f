"""Everything that the commands import but the commands themselves, for `forked.py`'s server.

A command module must not be among it: `runpy` warns where what it is to run was imported before.
"""

from __future__ import annotations

import importlib
import pkgutil

import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import plotly.graph_objects
import ray.tune
import sklearn.datasets

import tuner

__all__ = ["mlflow", "plotly", "ray", "sklearn"]

for module in pkgutil.walk_packages(tuner.__path__, "tuner."):
    if module.name.count(".") > 1 and not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
