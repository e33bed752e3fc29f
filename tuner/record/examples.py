"""Names of the examples of a search, kept in its run directory: the data may be elsewhere when they are asked for."""

from __future__ import annotations

import json
from typing import Self

from pydantic import ValidationError

from trainables.files import write_whole
from trainables.frozen import Frozen
from tuner.record.directory import RunDirectory


class ExampleNames(Frozen):
    """Names of the classes, and of the training and test examples in the order of `Predictions.index`."""

    class_names: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, split: str) -> tuple[str, ...]:
        """Names of the examples that were validated on, or tested."""
        return self.test if split == "test" else self.train

    def write(self, directory: RunDirectory) -> None:
        """Writes them into the run directory. Raises OSError."""
        directory.predictions.mkdir(parents=True, exist_ok=True)
        write_whole(directory.examples, json.dumps(self.model_dump(mode="json"), ensure_ascii=False).encode())

    @classmethod
    def read(cls, directory: RunDirectory) -> Self | None:
        """Reads them; None where they are missing or cannot be read."""
        try:
            return cls.model_validate_json(directory.examples.read_bytes())
        except (OSError, ValidationError):
            return None
