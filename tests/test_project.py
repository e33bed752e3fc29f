"""What the project says of itself in more than one place."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 350


def test_the_changelog_is_at_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_every_make_command_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", (ROOT / page).read_text()))
    assert named
    assert named <= targets


def test_every_file_that_a_page_links_to_is_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert links
    missing = [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
    assert not missing


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):(?!=)", text, re.MULTILINE)
    assert re.findall(r"^([a-z-]+): .*##", text, re.MULTILINE) == targets
    phony = " ".join(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)).split()
    assert set(phony) == set(targets)


def test_no_module_has_more_lines_than_a_person_reads_at_once() -> None:
    modules = [
        path
        for folder in ("trainables", "tuner", "deploy", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert modules
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def installations(target: str) -> list[str]:
    """The arguments of pip in what `make` would do for a target in a fresh clone."""
    command = ["make", "--dry-run", "--always-make", target]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return re.findall(r"-m pip install (.+)$", planned, re.MULTILINE)


@pytest.mark.parametrize("target", ["search", "ui"])
def test_a_user_installs_nothing_of_development(target: str) -> None:
    (arguments,) = installations(target)
    assert arguments.split()[-2:] == ["--editable", "."]
    assert "--quiet" not in arguments  # minutes without a line look like a hang


@pytest.mark.parametrize("target", ["test", "check", "bench"])
def test_development_has_everything(target: str) -> None:
    assert any(".[dev]" in arguments for arguments in installations(target))
