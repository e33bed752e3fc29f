"""Doctests of all modules."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import trainables

MODULES = sorted(module.name for module in pkgutil.walk_packages(trainables.__path__, "trainables."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_print_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
