"""Record of the plugins of a run: copies of their files, with which it can be resumed and its scores explained."""

from __future__ import annotations

import shutil

from trainables.errors import BadInput, Problem, os_reason
from trainables.plugins import plugin_files, use_plugins
from tuner.record.directory import RunDirectory


def keep_plugins(directory: RunDirectory) -> None:
    """Copies the files of plugins of this process into the run directory, unless it has them.

    Raises:
        BadInput: if one cannot be copied.
    """
    for file in plugin_files():
        copy = directory.plugins / file.name
        if copy.exists():
            continue
        try:
            directory.plugins.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        except OSError as error:
            raise BadInput(Problem("--plugin", "a file that can be copied", os_reason(error), file=str(file))) from None


def use_recorded_plugins(directory: RunDirectory) -> None:
    """Adds the copies in the run directory to the plugins of this process. A file of the same name that was given stays
    in place of the copy; `check_same_plugins` compares the two."""
    given = {file.name for file in plugin_files()}
    use_plugins([copy for copy in directory.plugin_copies if copy.name not in given])


def check_same_plugins(directory: RunDirectory) -> None:
    """Raises BadInput with every file of plugins of this process whose copy in the run directory differs from it: the
    trials that are left would be trained by other code than the earlier ones."""
    changed = []
    for file in plugin_files():
        copy = directory.plugins / file.name
        if copy.exists() and copy.read_bytes() != file.read_bytes():
            expected = f"what the search was started with, kept in {copy} (which is used without --plugin)"
            changed.append(Problem("--plugin", expected, "other contents", file=str(file)))
    if changed:
        raise BadInput(changed)
