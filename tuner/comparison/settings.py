"""The `compare` section: rows, columns, seeds, measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, PositiveInt, ValidationInfo, field_validator, model_validator

from trainables.backbones.config import BackboneConfig
from trainables.data.config import DataConfig
from trainables.frozen import Frozen
from trainables.measures import MEASURES
from trainables.training.config import TrainingConfig
from tuner.experiment.extends import deep_merge

BASE: dict[str, type[BaseModel]] = {"data": DataConfig, "backbone": BackboneConfig, "training": TrainingConfig}
"""Sections of the file that columns and rows may overlay."""

SAMPLE_SIZE = ("train_images", "train_fraction")
"""Keys of `data` that a row may set: with any other, its score would not be comparable."""

Label = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\r\n\t]*$")]


Tree = dict[str, Any]


class SharedRowSettings(Frozen):
    """What all rows have in common, as their own learning rate found by a search; a row may say otherwise."""

    training: Tree = Field(default_factory=dict)
    """Keys of `training`, dimensions included."""
    search: Tree = Field(default_factory=dict)
    """Settings of a search for every row, as in a search file."""


class RowSettings(Frozen):
    """Row: a method with fixed settings, or, if there is a `search`, with dimensions in `method` and `training`."""

    label: Label
    """Name of the row in the tables."""
    method: Tree
    """Method and its settings, as in a search file."""
    training: Tree = Field(default_factory=dict)
    """Keys of `training` that differ from the file's."""
    backbone: Tree = Field(default_factory=dict)
    """Keys of `backbone` that differ from the file's."""
    data: Tree = Field(default_factory=dict)
    """Sample size alone, for a method that is given more images ("+ Add. Data")."""
    search: Tree | None = None
    """Settings of the row's own search in each column, as in a search file."""

    @property
    def overlay(self) -> Tree:
        """Part of the experiment that the row sets."""
        return {section: getattr(self, section) for section in ("method", *BASE, "search") if getattr(self, section)}


class ColumnSettings(Frozen):
    """Column: other data, training or backbone for all rows."""

    label: Label
    """Name of the column in the tables."""
    data: Tree = Field(default_factory=dict)
    """Keys of `data` that differ from the file's."""
    training: Tree = Field(default_factory=dict)
    """Keys of `training` that differ from the file's."""
    backbone: Tree = Field(default_factory=dict)
    """Keys of `backbone` that differ from the file's."""

    @property
    def overlay(self) -> Tree:
        """Part of the experiment that the column sets."""
        return {section: getattr(self, section) for section in BASE if getattr(self, section)}


class CompareSettings(Frozen):
    """Section `compare`: rows, columns, and the number of repetitions."""

    reference: str
    """Row against which the others are tested: its label, or its method's name if only one row has that method."""
    seeds: PositiveInt = 3
    """Number of trainings of every row in every column; they are paired by seed."""
    all_rows: SharedRowSettings = SharedRowSettings()
    """`training` and `search` of every row, below its own: a search over the same learning rates, for example."""
    rows: Annotated[tuple[RowSettings, ...], Field(min_length=1)]
    """Methods that are compared, with their settings."""
    columns: Annotated[tuple[ColumnSettings, ...], Field(min_length=1)] = (ColumnSettings(label="top-1"),)
    """Data sets, or samples of one, on which they are compared."""
    measures: tuple[str, ...] = ()
    """Further measures of every trained network, on the column's training images and on the test split."""

    @field_validator("rows", mode="before")
    @classmethod
    def _with_shared(cls, rows: Any, before: ValidationInfo) -> Any:
        shared = before.data.get("all_rows")  # missing where it was refused itself
        if shared is None or not isinstance(rows, list | tuple):
            return rows
        below = {section: tree for section, tree in shared.model_dump().items() if tree}
        return [deep_merge(below, row) if isinstance(row, Mapping) else row for row in rows]

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        for kind, labels in (("rows", [row.label for row in self.rows]), ("columns", [c.label for c in self.columns])):
            if len(set(labels)) < len(labels):
                raise ValueError(f"{kind} with different labels, got {labels}")
        return self

    @model_validator(mode="after")
    def _measures_are_known(self) -> Self:
        for name in self.measures:
            if name not in MEASURES:
                raise ValueError(f"measures of {', '.join(MEASURES)}, got {name!r}")
        return self

    @model_validator(mode="after")
    def _reference_is_a_row(self) -> Self:
        if self.reference_label is None:
            known = ", ".join(map(repr, (row.label for row in self.rows)))
            expected = f"a row's label ({known}), or the method of one row, as reference"
            raise ValueError(f"{expected}, got {self.reference!r}")
        return self

    @property
    def reference_label(self) -> str | None:
        """Label of the reference row."""
        if any(row.label == self.reference for row in self.rows):
            return self.reference
        named = [row.label for row in self.rows if row.method.get("name") == self.reference]
        return named[0] if len(named) == 1 else None
