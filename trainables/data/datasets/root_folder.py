"""What datasets on disk have in common: a root that is there, and errors that show what is there instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.data.config import DataConfig
from trainables.errors import BadInput, Problem, nearest


def existing_root(config: DataConfig) -> Path:
    """The folder `root`, or BadInput that says what is there instead."""
    if config.root is None:
        raise BadInput(Problem("root", f"a folder for dataset {config.dataset}", "nothing"))
    root = config.root.expanduser()
    if not root.is_dir():
        raise BadInput(Problem("root", "an existing folder", f"'{root}', {_what_is_there(root)}"))
    return root


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder` by name, without hidden ones."""
    children = (child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return sorted(children, key=lambda child: child.name)


def quoted(names: Sequence[str], at_most: int | None = None) -> str:
    """`'a', 'b'`; of more than `at_most`, the first ones and how many there are."""
    if at_most is not None and len(names) > at_most:
        return f"{quoted(names[:at_most])}, … ({len(names)} in all)"
    return ", ".join(f"'{name}'" for name in names)


def _what_is_there(path: Path) -> str:
    if path.exists():
        return "which is a file"
    existing = next(parent for parent in path.absolute().parents if parent.is_dir())
    if existing != path.absolute().parent:
        return f"which does not exist; the nearest folder that does is '{existing}'"
    names = [folder.name for folder in subfolders(existing)]
    similar = nearest(path.name, names) or names[:5]
    return "which does not exist" + (f"; beside it are {quoted(similar)}" if similar else "")
