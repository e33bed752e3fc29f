"""The tree in docs/architecture.md and the folders say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("trainables", "tuner", "deploy")
INDENT = 4

# Names stand first on a line; what follows two spaces and is no name is the annotation.
NAME = re.compile(r"[\w.-]+(?:/|\.[a-z]+)")


def paths_of(tree: str) -> Iterator[str]:
    """Every file and folder (with `/`) that an indented tree names, as a path from the root.

    >>> list(paths_of("a/    a folder\\n    b.py  c.py   two files"))
    ['a/', 'a/b.py', 'a/c.py']
    """
    above: list[str] = []
    for line in filter(str.strip, tree.splitlines()):
        depth, rest = (len(line) - len(line.lstrip())) // INDENT, line.strip()
        names = []
        for word in re.split(r"  +", rest):
            if not NAME.fullmatch(word):
                break
            names.append(word)
        assert names, f"no name stands at the start of {line!r}"
        folder = "".join(above[:depth])
        yield from (folder + name for name in names)
        above = [*above[:depth], names[0]] if names[0].endswith("/") else above[:depth]


def named_paths() -> list[str]:
    found = re.search(r"<!-- tree -->\n```\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return list(paths_of(found[1]))


def modules_of(package: str) -> Iterator[str]:
    for path in (ROOT / package).rglob("*.py"):
        if path.name != "__init__.py":
            yield path.relative_to(ROOT).as_posix()


def test_no_name_stands_twice() -> None:
    named = named_paths()
    assert len(named) == len(set(named))


def test_every_name_in_the_tree_exists() -> None:
    missing = [name for name in named_paths() if not (ROOT / name).exists()]
    assert not missing, f"docs/architecture.md names what is not there: {missing}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_the_tree(package: str) -> None:
    missing = sorted(set(modules_of(package)) - set(named_paths()))
    assert not missing, f"docs/architecture.md lacks {missing}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_modules_is_in_the_tree(package: str) -> None:
    folders = {f"{Path(module).parent.as_posix()}/" for module in modules_of(package)}
    assert folders <= set(named_paths())


def test_a_tree_is_read_by_its_indentation() -> None:
    tree = "a/    a folder\n    b.py  c.py   two files\n    d/\n        e.py\n    f.py  of a\n"
    assert list(paths_of(tree)) == ["a/", "a/b.py", "a/c.py", "a/d/", "a/d/e.py", "a/f.py"]


@pytest.mark.parametrize("heading", ["From the YAML file to the loss", "From the worker to the report"])
def test_a_walk_enters_each_room_once_and_names_files_that_are_there(heading: str) -> None:
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}")[1].split("\n## ")[0]
    rooms: list[str] = []
    for row in re.findall(r"^\| (?:`(.+?)`)? ?\|(.*?)\|", section, re.MULTILINE):
        rooms += filter(None, row[:1])
        for file in re.findall(r"`([\w/.]+)`", row[1]):
            assert (ROOT / rooms[-1] / file).is_file(), f"{rooms[-1]}{file}"
    assert len(rooms) >= 5
    assert len(rooms) == len(set(rooms))
