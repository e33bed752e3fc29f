"""The folder `root` of datasets on disk, and error messages about its contents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.data.config import DataConfig
from trainables.data.datasets.folders import is_utf8, shown, subfolders
from trainables.errors import BadInput, Problem, nearest


def existing_root(config: DataConfig) -> Path:
    """The folder `root`. Raises BadInput if it is not given, does not exist (with similar names), or is not UTF-8."""
    if config.root is None:
        raise BadInput(Problem("root", f"a folder for dataset {config.dataset}", "nothing"))
    root = config.root.expanduser()
    if not is_utf8(str(root)):
        raise BadInput(Problem("root", "a folder whose name is UTF-8", f"'{shown(root)}'"))
    if not root.is_dir():
        raise BadInput(Problem("root", "an existing folder", f"'{root}', {_what_is_there(root)}"))
    return root


def quoted(names: Sequence[str], at_most: int | None = None) -> str:
    """Names in quotes for a message; of more than `at_most`, the first ones and their number.

    >>> quoted(["a", "b", "c"], at_most=2)
    "'a', 'b', … (3 in all)"
    """
    if at_most is not None and len(names) > at_most:
        return f"{quoted(names[:at_most])}, … ({len(names)} in all)"
    return ", ".join(f"'{shown(name)}'" for name in names)


def _what_is_there(path: Path) -> str:
    if path.exists():
        return "which is a file"
    existing = next(parent for parent in path.absolute().parents if parent.is_dir())
    if existing != path.absolute().parent:
        return f"which does not exist; the nearest folder that does is '{existing}'"
    names = [folder.name for folder in subfolders(existing)]
    similar = nearest(path.name, names) or names[:5]
    return "which does not exist" + (f"; beside it are {quoted(similar)}" if similar else "")
