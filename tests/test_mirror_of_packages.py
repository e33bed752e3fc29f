"""The tests mirror the packages: `tests/tuner/record/test_find.py` tests `tuner/record/find.py`.

A module with many tests has more than one file of them: `test_find.py`, `test_find_on_nfs.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGES = ("trainables", "tuner", "deploy", "benchmarks", "search_spaces")

# What tests more than one module, or none.
EXCEPTIONS = {
    "deploy/test_compose.py": "compose.yaml",
    "deploy/test_dockerfile.py": "the Dockerfile",
    "deploy/test_manifests.py": "templates for Kubernetes",
    "deploy/test_scripts.py": "the template for Slurm",
    "trainables/data/test_cached_loading.py": "loading with a cache, across processes",
    "trainables/data/test_paper_subsets.py": "sampling, against the paper's subsets",
    "trainables/methods/test_contract.py": "every method",
    "trainables/methods/test_needs.py": "every method, on backbones that lack what it needs",
    "trainables/methods/test_texts.py": "every method, on texts",
    "trainables/test_examples.py": "examples in docstrings",
    "trainables/test_listings.py": "registries of methods, datasets and backbones",
    "trainables/training/test_compiled.py": "training with torch.compile",
    "tuner/experiment/test_light_imports.py": "imports of the room",
    "tuner/experiment/test_lines.py": "lines of problems, from YAML to message",
    "tuner/test_commands.py": "every command",
    "tuner/test_examples.py": "examples in docstrings",
    "tuner/test_texts.py": "texts, from experiment to prediction",
    "tuner/tracking/test_background.py": "BackgroundSync with a projection and a store",
}


def files_below(package: str) -> set[str]:
    return {file.relative_to(TESTS).as_posix() for file in (TESTS / package).rglob("test_*.py")}


def has_module(test: str) -> bool:
    """Whether a test's module, or package, is in the folder that mirrors the test's."""
    folder, words = (ROOT / test).parent, Path(test).stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return any((folder / f"{name}.py").exists() or (folder / name).is_dir() for name in [*names, f"__{names[-1]}__"])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_test_has_its_module(package: str) -> None:
    lost = sorted(test for test in files_below(package) if not has_module(test) and test not in EXCEPTIONS)
    assert not lost, f"without a module of their name: {lost}"


def test_no_exception_is_stale() -> None:
    tests = set().union(*map(files_below, PACKAGES))
    assert not [test for test in EXCEPTIONS if test not in tests or has_module(test)]
