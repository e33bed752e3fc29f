"""The environment of a run, on which a result depends besides its configuration: versions, machine, command, store."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuner.messages.redaction import without_credentials
from tuner.record.directory import RunDirectory

RECORDED_PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "pydantic")
"""Packages that a search's scores may depend on. A saved model names fewer, those of a prediction: see
`trainables.classifier.PACKAGES` for the versions in its folder and `tuner.tracking.registry.INFERENCE_PACKAGES` for
what a model server installs, where packages that only carry weights count, too."""


class Environment(BaseModel):
    """Content of `environment.json`, without credentials; empty if a run has no such file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    python: str = ""
    platform: str = ""
    cpus: int | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    command: str = ""
    tracking_uri: str = ""

    @classmethod
    def here(cls, tracking_uri: str) -> Environment:
        """Describes this process and its machine. `tracking_uri` is the store's, and may hold credentials."""
        arguments = [without_credentials(argument) for argument in sys.argv[1:]]
        return cls(
            python=platform.python_version(),
            platform=platform.platform(),
            cpus=os.cpu_count(),
            packages={name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
            command=shlex.join([*_program(), *arguments]),
            tracking_uri=without_credentials(tracking_uri),
        )

    @classmethod
    def read(cls, directory: RunDirectory) -> Environment:
        """Reads the environment of a run; returns an empty one if there is none that can be read."""
        try:
            return cls.model_validate_json(directory.environment.read_bytes())
        except (OSError, ValidationError):
            return cls()

    def write(self, directory: RunDirectory) -> None:
        """Writes `environment.json`. Raises OSError."""
        directory.environment.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _program() -> list[str]:
    """Returns the program of the running command: `python -m` and its module, or the script's file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["python", "-m", spec.name.removesuffix(".__main__")] if spec is not None else [sys.argv[0]]
