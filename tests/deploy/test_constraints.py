from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.constraints import PYPROJECT, main, requirements_of, versions
from deploy.settings import load_settings

FILE = Path("deploy/constraints.txt")


def pinned() -> dict[str, str]:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in lines), "a version each, and no source"
    return dict(line.split("==") for line in lines)


def test_every_requirement_of_the_image_is_pinned_within_its_bounds() -> None:
    known = pinned()
    for requirement in map(Requirement, requirements_of(PYPROJECT)):
        assert requirement.specifier.contains(known[canonicalize_name(requirement.name)]), requirement


def test_versions_agree_with_the_settings() -> None:
    known, settings = pinned(), load_settings().versions
    assert (known["ray"], known["mlflow"]) == (settings.ray, settings.mlflow)


def test_what_is_required_indirectly_is_found() -> None:
    found = versions(["torch>=2"])
    assert {"torch", "sympy", "mpmath"} <= set(found), "the last one by way of the second"
    assert all("+" not in version for version in found.values())
    assert versions(["no-such-package", "torch; python_version < '3'"]) == {}


def test_the_command_writes_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    comment, *lines = capsys.readouterr().out.splitlines()
    assert comment.startswith("#")
    assert "torch" in {line.partition("==")[0] for line in lines}
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
