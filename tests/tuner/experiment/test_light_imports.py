"""What reads and describes experiments starts at once: it imports no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "mlflow", "ray", "optuna", "plotly", "numpy")
SERVICES = ("mlflow", "ray", "optuna", "plotly")


def loaded_by(modules: tuple[str, ...], heavy: tuple[str, ...]) -> list[str]:
    """Which of `heavy` a fresh process has loaded after importing `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*[name for name in {heavy} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


LIGHT = (
    "tuner.experiment.settings",
    "tuner.experiment.dimensions",
    "tuner.experiment.tree",
    "tuner.experiment.strict_yaml",
    "tuner.experiment.extends",
    "tuner.experiment.sections",
    "tuner.messages.redaction",
    "tuner.messages.validation",
    "tuner.messages.wording",
)


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_imports_no_framework(module: str) -> None:
    assert loaded_by((module,), HEAVY) == []


def test_an_experiment_imports_no_service() -> None:
    modules = ("tuner.experiment.checks", "tuner.experiment.search_experiment", "tuner.experiment.smoke")
    assert loaded_by(modules, SERVICES) == []
