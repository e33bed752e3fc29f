"""The `compare` section: rows, columns, seeds, measures."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, PositiveInt, model_validator

from trainables.backbones.config import BackboneConfig
from trainables.data.config import DataConfig
from trainables.frozen import Frozen
from trainables.measures import MEASURES
from trainables.training.config import TrainingConfig

BASE: dict[str, type[BaseModel]] = {"data": DataConfig, "backbone": BackboneConfig, "training": TrainingConfig}
"""Sections that the base says, and columns and rows may change."""


SAMPLE_SIZE = ("train_images", "train_fraction")
"""All that a row may change of the data: everything else would change what its score is a score of."""


Label = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\r\n\t]*$")]


Tree = dict[str, Any]


class RowSettings(Frozen):
    """A method, with fixed settings or, where there is a `search`, with dimensions inside `method` and `training`."""

    label: Label
    method: Tree
    training: Tree = Field(default_factory=dict)
    backbone: Tree = Field(default_factory=dict)
    data: Tree = Field(default_factory=dict)
    """Only a sample size, for a method that is given more images ("+ Add. Data")."""
    search: Tree | None = None
    """The row's own search in each column, as in a search file; validation chooses, the test split only reports."""

    @property
    def overlay(self) -> Tree:
        """What the row says of the experiment."""
        return {section: getattr(self, section) for section in ("method", *BASE, "search") if getattr(self, section)}


class ColumnSettings(Frozen):
    """Other data, or another training, for all rows."""

    label: Label
    data: Tree = Field(default_factory=dict)
    training: Tree = Field(default_factory=dict)
    backbone: Tree = Field(default_factory=dict)

    @property
    def overlay(self) -> Tree:
        """What the column says of the experiment."""
        return {section: getattr(self, section) for section in BASE if getattr(self, section)}


class CompareSettings(Frozen):
    """What is compared, and how often it is repeated."""

    reference: str
    """The row that the others are tested against: its label, or its method's name where only one row has it."""
    seeds: PositiveInt = 3
    """Trainings of every row in every column; seed r is the same for all, so that they can be compared in pairs."""
    rows: Annotated[tuple[RowSettings, ...], Field(min_length=1)]
    columns: Annotated[tuple[ColumnSettings, ...], Field(min_length=1)] = (ColumnSettings(label="top-1"),)
    measures: tuple[str, ...] = ()
    """What else is measured of every trained network, on the column's training images and on the test split."""

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
                raise ValueError(f"as measures some of {', '.join(MEASURES)}, got {name!r}")
        return self

    @model_validator(mode="after")
    def _reference_is_a_row(self) -> Self:
        if self.reference_label is None:
            known = ", ".join(map(repr, (row.label for row in self.rows)))
            expected = f"as reference a row's label ({known}) or the method of one row"
            raise ValueError(f"{expected}, got {self.reference!r}")
        return self

    @property
    def reference_label(self) -> str | None:
        """Label of the reference row."""
        if any(row.label == self.reference for row in self.rows):
            return self.reference
        named = [row.label for row in self.rows if row.method.get("name") == self.reference]
        return named[0] if len(named) == 1 else None
