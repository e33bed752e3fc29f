"""The experiment files that come with the package, by name."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from trainables.errors import BadInput, Problem, did_you_mean

PARTS = "paper/parts"
"""What other files extend, and no experiment itself."""


def find_space(text: str | Path, where: str = "") -> Path:
    """The experiment file that `text` means: a file's path, or the name of a packaged experiment.

    A file that exists wins over a name, and a text that ends in `.yaml` or `.yml` is a path whether it exists or not.

    >>> find_space("compare/digits").name
    'digits.yaml'

    Raises:
        BadInput: of `where`, if `text` is neither.
    """
    path = Path(text)
    if os.path.isfile(path) or path.suffix in (".yaml", ".yml"):
        return path
    spaces = packaged_spaces()
    if str(text) in spaces:
        return spaces[str(text)]
    short = ", ".join(name for name in spaces if not name.startswith("paper/"))
    expected = f"an experiment file, or the name of a packaged one ({short}, paper/…)"
    raise BadInput(Problem(where, expected, f"{str(text)!r}{did_you_mean(str(text), spaces)}"))


def packaged_spaces() -> dict[str, Path]:
    """The packaged experiments, searches and comparisons, by their path below `search_spaces/` without suffix."""
    folder = Path(str(files("search_spaces")))
    found = sorted((len(file.parts), file) for file in folder.rglob("*.yaml"))
    names = {file.relative_to(folder).with_suffix("").as_posix(): file for _, file in found}
    return {name: file for name, file in names.items() if not name.startswith(f"{PARTS}/")}
