"""Folders of photographs and their files: links are followed once, and folders of systems and programs are left out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from trainables.data.datasets.formats import ending_of, is_image
from trainables.errors import BadInput, Problem, os_reason

SYSTEM_FOLDERS = (
    ".*",  # hidden
    # network drives: Synology, QNAP, NetApp
    "@eadir",
    "@tmp",
    "@sharebin",
    "@recycle",
    "@recently-snapshot",
    "@transcode",
    "@__thumb",
    "#recycle",
    "#snapshot",
    "~snapshot",
    # Windows
    "$recycle.bin",
    "$extend",
    "$winreagent",
    "found.[0-9][0-9][0-9]",
    "system volume information",
    # macOS, and archives made there
    "__macosx",
    "network trash folder",
    "temporary items",
    "thevolumesettingsfolder",
    # Linux, Python, MLflow
    "lost+found",
    "__pycache__",
    "mlartifacts",
    "mlruns",
)
"""Names of folders, in lower case, that are no classes and hold no images of them."""
SYSTEM_FILES = (".*", "desktop.ini", "thumbs.db", "ehthumbs*.db", "icon\r")
"""Names of files, in lower case, that nobody put beside the images."""
_SYSTEM_FOLDER, _SYSTEM_FILE = (re.compile("|".join(map(translate, names))) for names in (SYSTEM_FOLDERS, SYSTEM_FILES))

RECORDS = "experiments"
"""Default name of the folder of a search's records."""
RECORD_FILES = ("journal.jsonl", "space.yaml")
"""Files of a record, by which a folder of records is known under any name."""
RECORD_DEPTH = 2
"""Levels of sub-folders below the folder of records at which they are: its experiments, and their runs."""


@dataclass(frozen=True)
class FolderFiles:
    """Files below a folder.

    `images` are in the order of their paths, and `targets` the files that they lead to without links; `left_out` counts
    the others by ending. `misnamed` are files and folders whose names are not UTF-8, which are not entered.
    """

    images: tuple[Path, ...]
    targets: tuple[str, ...]
    left_out: Counter[str]
    misnamed: tuple[Path, ...]
    has_record: bool
    """Whether there is a record of a search; see `RECORD_FILES`."""


def find_files(folder: Path, entered: Collection[str] = ()) -> FolderFiles:
    """Finds all files below `folder`, each once: links are followed, but to no folder or file that has been visited.

    `entered` are folders, without links, that no link leads to again: those above, and other classes. Raises BadInput
    for a folder that cannot be read.
    """
    found: dict[str, Path] = {}
    left_out: Counter[str] = Counter()
    misnamed: list[Path] = []
    has_record = False
    for entry, parent in _files_below(folder, entered, misnamed):
        path = Path(entry.path)
        if not is_image(entry.name):
            left_out[ending_of(entry.name)] += 1
            depth = len(path.relative_to(folder).parts) - 1
            has_record |= entry.name in RECORD_FILES and depth <= RECORD_DEPTH
            continue
        is_link = entry.is_symlink()
        target = os.path.realpath(path) if is_link else os.path.join(parent, entry.name)
        if target not in found or not is_link:
            found[target] = path  # the file itself rather than a link to it
    order = sorted(found, key=lambda target: found[target].relative_to(folder).parts)
    images = tuple(found[target] for target in order)
    return FolderFiles(images, tuple(order), left_out, tuple(misnamed), has_record)


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted by name, without those of systems. Raises BadInput if it cannot be read."""
    return sorted((Path(entry.path) for entry in entries_of(folder) if is_folder(entry)), key=lambda path: path.name)


def system_folders(folder: Path) -> list[str]:
    """The names of those folders in `folder` that `subfolders` leaves out and that are not hidden."""
    names = (child.name for child in folder.iterdir() if not child.name.startswith(".") and child.is_dir())
    return sorted(name for name in names if is_of_system(name, is_folder=True))


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, without those of systems. Raises BadInput if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_of_system(entry.name, is_folder(entry))]
    except OSError as error:
        raise BadInput(Problem("root", "folders that can be read", f"'{shown(folder)}': {os_reason(error)}")) from error


def is_record(folder: Path, files: FolderFiles) -> bool:
    """Whether a folder holds records of searches, by its `files`; one named `experiments` also if it has no image."""
    return files.has_record or (folder.name == RECORDS and not files.images)


def is_utf8(name: str) -> bool:
    """Whether the name of a file is UTF-8; Python decodes other bytes to lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(path: Path | str) -> str:
    r"""A path for a message, with bytes that are not UTF-8 as `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _files_below(
    folder: Path, entered: Collection[str], misnamed: list[Path]
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yields the entries of files, each with its folder without links; appends to `misnamed`."""
    pending = [(folder, os.path.realpath(folder))]
    seen = {pending[0][1]}
    while pending:
        parent, real_parent = pending.pop()
        for entry in sorted(entries_of(parent), key=lambda entry: entry.is_symlink()):
            if not is_utf8(entry.name):
                misnamed.append(Path(entry.path))
            elif not is_folder(entry):
                if is_regular(entry):
                    yield entry, real_parent
            elif (target := os.path.realpath(entry.path)) not in seen and target not in entered:
                seen.add(target)
                pending.append((Path(entry.path), target))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_regular(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link to nothing, which decoding names; not a pipe, which it would wait for."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def is_of_system(name: str, is_folder: bool) -> bool:
    """Whether a file or folder with this name is hidden, or was made by a system or program."""
    pattern = _SYSTEM_FOLDER if is_folder else _SYSTEM_FILE
    return pattern.match(name.lower()) is not None
