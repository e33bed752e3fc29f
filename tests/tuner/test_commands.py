"""What holds for every command: its form, and that nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

import pytest

COMMANDS = (
    "init",
    "search",
    "compare",
    "predict",
    "export",
    "try",
    "list",
    "stop",
    "report",
    "preview",
    "replay",
    "ui",
    "keys",
)
HEAVY = ("torch", "mlflow", "ray", "optuna", "numpy", "pandas", "plotly", "rich", "pydantic", "yaml")


@pytest.mark.parametrize("command", COMMANDS)
def test_it_has_a_command_line_of_its_own_name(command: str) -> None:
    module = importlib.import_module(f"tuner.{command}")
    parser = module.parser()
    assert isinstance(parser, argparse.ArgumentParser)
    assert parser.prog == f"python -m tuner.{command}"
    assert callable(module.main)
    assert callable(module.run)


def test_a_command_line_is_parsed_without_heavy_imports() -> None:
    code = f"""
import importlib, sys

for command in {COMMANDS}:
    importlib.import_module(f"tuner.{{command}}").parser()
    heavy = sys.modules.keys() & {set(HEAVY)}
    assert not heavy, (command, heavy)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
