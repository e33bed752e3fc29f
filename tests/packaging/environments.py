"""Virtual environments that use what is already installed, so that gigabytes of PyTorch are not fetched for each."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Environment:
    """A virtual environment of the running interpreter, in `folder`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        """Makes an empty one, without pip: `install` uses the running interpreter's."""
        venv.create(folder, symlinks=True, with_pip=False)
        return cls(folder)

    @property
    def bin(self) -> Path:
        """The folder of its programs."""
        return self.folder / "bin"

    @property
    def site_packages(self) -> Path:
        """The folder of its packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def link(self, distributions: Iterable[Distribution]) -> None:
        """Makes installed distributions its own by symbolic links: it then has these and no others."""
        for dist in distributions:
            for entry in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
                link, target = self.site_packages / entry, Path(str(dist.locate_file(entry)))
                if not link.exists():
                    link.symlink_to(target, target_is_directory=target.is_dir())

    def install(self, *arguments: str) -> None:
        """Runs `pip install` in it. Raises CalledProcessError where pip fails."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *arguments], check=True, env=clean_environment())


def clean_environment() -> dict[str, str]:
    """The variables of this process without those that would lead a child to this checkout, or to a user's services."""
    ours = ("MLFLOW_", "RAY_", "TUNE_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def required_distributions(requirements: Iterable[str]) -> dict[str, Distribution]:
    """The installed distributions that `requirements` need, directly or not, by normalised name.

    Raises:
        PackageNotFoundError: where one of them is not installed.
    """
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        if str(requirement) not in seen:
            seen.add(str(requirement))
            name = canonicalize_name(requirement.name)
            found[name] = distribution(name)
            waiting += _required_by(found[name], requirement.extras)
    return found


def _required_by(dist: Distribution, extras: Iterable[str]) -> list[Requirement]:
    """What a distribution needs here: with none but the given extras."""
    required = [Requirement(text) for text in dist.requires or ()]
    chosen = ["", *extras]
    return [
        requirement
        for requirement in required
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in chosen)
    ]
