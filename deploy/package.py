"""Archive that is sent to a cluster: the project's code and the experiment."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tuner
from trainables.errors import BadInput, Problem
from trainables.plugins import plugin_files

ROOT = Path(tuner.__file__).resolve().parents[1]
PACKAGES = ("trainables", "tuner", "deploy")
SPACE_FILE = "space.yaml"
PLUGINS = "plugins"
"""Folder of the archive with the files that `--plugin` names."""

MIB = 1 << 20
LIMIT_MIB = 95
"""The job server takes a request of at most 100 MiB."""


@dataclass(frozen=True)
class Package:
    """Files by their name in the archive, and the experiment as YAML."""

    files: Mapping[str, Path]
    space: str

    @property
    def size_bytes(self) -> int:
        """Size before compression."""
        return sum(file.stat().st_size for file in self.files.values()) + len(self.space.encode())

    def __str__(self) -> str:
        return f"{len(self.files) + 1} files, {self.size_bytes / MIB:.1f} MiB"

    def check(self) -> None:
        """Raises BadInput where it is too large to be sent, naming the largest files."""
        if self.size_bytes > LIMIT_MIB * MIB:
            largest = sorted(self.files, key=lambda name: -self.files[name].stat().st_size)[:3]
            named = ", ".join(f"{name} ({self.files[name].stat().st_size / MIB:.1f} MiB)" for name in largest)
            expected = f"at most {LIMIT_MIB} MiB of code (data and weights belong on the cluster's storage)"
            raise BadInput(Problem("the package", expected, f"{self}; largest: {named}"))

    def write(self, archive: Path) -> None:
        """Writes it as a zip. Equal content gives equal bytes, which a cluster is sent once."""
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name in sorted(self.files):
                _add(file, name, self.files[name].read_bytes())
            _add(file, SPACE_FILE, self.space.encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def project_files(root: Path = ROOT) -> dict[str, Path]:
    """The files of the packages and pyproject.toml, by their names in the archive. Data, environments, results and
    whatever else is in the folder are not among them.

    Raises:
        BadInput: where this is no checkout of the project.
    """
    if not (root / "pyproject.toml").is_file():
        raise BadInput(Problem("", "a checkout of the project, with its pyproject.toml", "none", file=str(root)))
    files = [root / "pyproject.toml"]
    for package in PACKAGES:
        files += [path for path in (root / package).rglob("*") if path.is_file() and _is_sent(path.relative_to(root))]
    return {path.relative_to(root).as_posix(): path for path in files}


def sent_plugins() -> dict[str, Path]:
    """The files of this process's plugins, by their names in the archive."""
    return {f"{PLUGINS}/{file.name}": file for file in plugin_files()}


def _is_sent(path: Path) -> bool:
    return not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
