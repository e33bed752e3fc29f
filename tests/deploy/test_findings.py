from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from deploy import findings
from deploy.findings import Findings, inspect_node, missing_requirements
from deploy.worker_request import WorkerRequest
from trainables.errors import Problem

ROOT = Path(__file__).parents[2]
PROJECT = ("deploy", "tuner", "trainables")
INSTALLED_ON_ANY_NODE = {"ray", "packaging"}


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\ndependencies = ["numpy>=1", "numpy>=99", "no-such-package[x]>=2"]\n')
    return file


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports_of(module: str, seen: set[str]) -> Iterator[str]:
    """Top-level names of the packages that importing a module imports, directly or by modules of this project."""
    if module in seen:
        return
    seen.add(module)
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for parent in (module.rpartition(".")[0],) if "." in module else ():
        yield from imports_of(parent, seen)
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in PROJECT:
                yield from imports_of(name if is_module(name) else name.rpartition(".")[0], seen)
            else:
                yield name.split(".")[0]


def needed(module: str) -> set[str]:
    """The packages that must be installed to import a module of this project."""
    return set(imports_of(module, set())) - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["deploy.findings", "deploy.head"])
def test_nothing_has_to_be_installed_but_ray_and_packaging(module: str) -> None:
    assert needed(module) <= INSTALLED_ON_ANY_NODE


def test_a_module_that_needs_more_is_noticed() -> None:
    assert "ray" in needed("deploy.findings")
    assert {"pydantic", "yaml"} <= needed("deploy.preflight")


def test_findings_are_read_from_among_other_lines() -> None:
    found = Findings(
        nodes=2,
        gpus=0.5,
        awaited=WorkerRequest(1, 2, 0),
        problems=(Problem("resources.gpus", "0", "1", file="space.yaml", line=3),),
        refusals=("a\nb",),
        notes=("c",),
    )
    assert Findings.from_log(f"hello\n{found.as_line()}\nbye") == found
    assert Findings.from_log(f"{found.as_line()}\n{Findings().as_line()}") == Findings()
    assert Findings.from_log("hello") is None


def test_a_missing_requirement_is_named_with_the_version_that_is_there(pyproject: Path) -> None:
    missing = missing_requirements(pyproject)
    assert missing == (f"numpy>=99 (there is {numpy.__version__})", "no-such-package[x]>=2 (there is none)")


def test_nothing_of_this_project_is_missing_here() -> None:
    assert missing_requirements(ROOT / "pyproject.toml") == ()


def test_a_node_reads_what_the_head_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "token").write_text("abc")
    facts = inspect_node("10.0.0.7", str(tmp_path / "token"), has_gpus=False)
    assert (facts.node, facts.token, facts.missing, facts.note) == ("10.0.0.7", "abc", (), "")
    monkeypatch.setattr(findings, "VISIBLE_WITHIN_S", 0)
    assert inspect_node("10.0.0.7", str(tmp_path / "nothing"), has_gpus=False).token is None
    assert inspect_node("10.0.0.7", None, has_gpus=False).token is None


def test_gpus_that_pytorch_cannot_use_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(ROOT)
    for build in ("cuda", "hip"):
        monkeypatch.setattr(torch.version, build, None)
    assert "built for the CPU alone" in inspect_node("10.0.0.7", None, has_gpus=True).note
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert inspect_node("10.0.0.7", None, has_gpus=True).note == ""
