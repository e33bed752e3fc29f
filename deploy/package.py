"""What travels to a cluster: the project's code and the experiment, as one archive; and what the job is called."""

from __future__ import annotations

import datetime
import re
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tuner
from trainables.errors import BadInput, Problem

ROOT = Path(tuner.__file__).resolve().parents[1]
PACKAGES = ("trainables", "tuner", "deploy")
SPACE_FILE = "space.yaml"

MIB = 1 << 20
LIMIT_MIB = 95
"""The job server takes a request of at most 100 MiB."""

# A name is part of a URL, a folder on shared storage, and what Kubernetes calls its objects (at most 47 for a RayJob).
JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")
NAME_LENGTH = 27
"""How much of the experiment's name a made-up job name keeps; time and hash take the rest."""


@dataclass(frozen=True)
class Parcel:
    """Files by their name in the archive, and the experiment as YAML (none for jobs that only look or fetch)."""

    files: Mapping[str, Path]
    space: str | None = None

    @property
    def size_bytes(self) -> int:
        """Of everything, not yet compressed."""
        return sum(file.stat().st_size for file in self.files.values()) + len((self.space or "").encode())

    def __str__(self) -> str:
        num_files = len(self.files) + (self.space is not None)
        return f"{num_files} files, {self.size_bytes / MIB:.1f} MiB"

    def check(self) -> None:
        """Raises BadInput where it is too large to be sent, with the files that make it so."""
        if self.size_bytes > LIMIT_MIB * MIB:
            largest = sorted(self.files, key=lambda name: -self.files[name].stat().st_size)[:3]
            named = ", ".join(f"{name} ({self.files[name].stat().st_size / MIB:.1f} MiB)" for name in largest)
            expected = f"at most {LIMIT_MIB} MiB of code are sent; data and weights belong on the cluster's storage"
            raise BadInput(Problem("the package", expected, f"{self}; largest: {named}"))

    def write(self, archive: Path) -> None:
        """Writes it as a zip. The same content gives the same bytes, so that a cluster that has it is not sent it."""
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name in sorted(self.files):
                _add(file, name, self.files[name].read_bytes())
            if self.space is not None:
                _add(file, SPACE_FILE, self.space.encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def project_files(root: Path = ROOT) -> dict[str, Path]:
    """The code and its pyproject.toml. Named are what to take, not what to leave: data, environments, results and
    whatever else lies in the folder stay where they are.

    Raises:
        BadInput: where this is no checkout of the project.
    """
    if not (root / "pyproject.toml").is_file():
        raise BadInput(Problem("", "a checkout of the project, with its pyproject.toml", "none", file=str(root)))
    files = [root / "pyproject.toml"]
    for package in PACKAGES:
        files += [path for path in (root / package).rglob("*") if path.is_file() and _travels(path.relative_to(root))]
    return {path.relative_to(root).as_posix(): path for path in files}


def _travels(path: Path) -> bool:
    return not any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def is_absolute(place: str) -> bool:
    """Whether a folder or file is named so that it means the same in any working folder."""
    return place.startswith("/") or "://" in place


def check_job_name(name: str) -> str:
    """`name`, if a job can have it: then it escapes neither its URL nor its folder. Raises BadInput."""
    if not JOB_NAME.fullmatch(name):
        expected = "lower-case letters, digits and '-', beginning with a letter, not ending with '-', at most 47"
        raise BadInput(Problem("the job's name", expected, repr(name)))
    return name


def new_job_name(experiment: str) -> str:
    """A name that nobody else has: what it is, when, and four random digits."""
    stem = re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")[:NAME_LENGTH].strip("-")
    if not stem[:1].isalpha():
        stem = f"job-{stem}"[:NAME_LENGTH].strip("-")
    return f"{stem}-{datetime.datetime.now():%y%m%d-%H%M%S}-{secrets.token_hex(2)}"
