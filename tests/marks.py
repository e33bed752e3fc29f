"""Marks that tests of several packages share."""

import pytest

MLFLOW_LEAKS = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
"""For a module whose tests use MLflow in their own process: it leaves its pooled sqlite connections to the garbage
collector."""
