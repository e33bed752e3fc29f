"""What a result depends on besides its configuration: versions, machine, command, store."""

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


class Environment(BaseModel):
    """Content of `environment.json`, without credentials. Empty where a run has none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    python: str = ""
    platform: str = ""
    cpus: int | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    command: str = ""
    tracking_uri: str = ""

    @classmethod
    def here(cls, tracking_uri: str) -> Environment:
        """Describes this process and its machine."""
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
        """Reads the environment of a run; an empty one where there is none that can be read."""
        try:
            return cls.model_validate_json(directory.environment.read_bytes())
        except (OSError, ValidationError):
            return cls()

    def write(self, directory: RunDirectory) -> None:
        """Writes `environment.json`. Raises OSError."""
        directory.environment.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _program() -> list[str]:
    """What to type for the command that runs: `python -m` and its module, or the script's file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["python", "-m", spec.name.removesuffix(".__main__")] if spec is not None else [sys.argv[0]]
