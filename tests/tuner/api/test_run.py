"""What the Python API takes, and that bad input is an exception before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tuner
from tests.tuner.tiny import space_of, tree_of, write_yaml
from trainables.errors import BadInput
from tuner.api.run import _search_experiment, run_comparison, run_search


def test_the_package_has_it() -> None:
    assert (tuner.run_search, tuner.run_comparison) == (run_search, run_comparison)
    with pytest.raises(AttributeError, match="no attribute 'search_run'"):
        _ = tuner.search_run  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["path", "text", "mapping", "object"])
def test_a_file_its_content_and_the_object_are_the_same_experiment(tmp_path: Path, kind: str) -> None:
    file = write_yaml(tmp_path)
    given: dict[str, Any] = {"path": file, "text": str(file), "mapping": tree_of(), "object": space_of()}
    space = _search_experiment(given[kind], {"search.trials": 3, "method.alpha": 0.3})
    assert (space.search.trials, space.fixed["method"]["alpha"]) == (3, 0.3)
    assert list(space.dimensions) == ["method.gamma_fe"]


def test_a_packaged_experiment_goes_by_name() -> None:
    assert _search_experiment("smile", {}).name == "smile-digits"


def test_the_mapping_that_was_given_is_left_alone() -> None:
    tree = tree_of()
    _search_experiment(tree, {"data.size_px": 40})
    assert tree == tree_of()


def test_bad_input_is_raised_with_the_override_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as bad:
        run_search(write_yaml(tmp_path), {"data.size_px": "big"})
    assert "overrides['data.size_px']: expected a whole number, got 'big'" in str(bad.value)
    with pytest.raises(BadInput, match=r"none\.yaml: expected a readable YAML file"):
        run_comparison(tmp_path / "none.yaml")
