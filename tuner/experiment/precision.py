"""Precisions that a file leaves to the hardware: decided once for all workers, before the first trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from trainables.errors import Problem
from trainables.frozen import Frozen
from trainables.precision import ComputedPrecision
from tuner.experiment.alternatives import Branches
from tuner.experiment.dimensions import Choice, Dimension, spell

AUTO = "auto"
ORDER: tuple[ComputedPrecision, ...] = ("fp32", "fp16", "bf16")
"""From the one that every GPU computes to the one that the fewest do."""


class Precisions(Frozen):
    """What `auto` means for the trainings of a command: `training` of `training.precision`, `teacher` of
    `method.teacher_precision`."""

    training: ComputedPrecision = "fp32"
    teacher: Literal["fp32", "bf16"] = "fp32"

    @classmethod
    def common(cls, found: Iterable[Precisions]) -> Precisions:
        """Returns the precisions that the hardware of all workers is made for, by those of each kind of it.

        >>> Precisions.common([Precisions(training="bf16", teacher="bf16"), Precisions(training="fp16")])
        Precisions(training='fp16', teacher='fp32')
        """
        kinds = list(found) or [cls()]
        return cls(
            training=min((each.training for each in kinds), key=ORDER.index),
            teacher="bf16" if all(each.teacher == "bf16" for each in kinds) else "fp32",
        )

    def in_place_of_auto(self, leaves: Mapping[str, Any]) -> dict[str, Any]:
        """Returns those of `leaves`, by dotted path, that are `auto` and a precision, with what it means."""
        meant = {"training.precision": self.training, "method.teacher_precision": self.teacher}
        return {path: value for path, value in meant.items() if leaves.get(path) == AUTO}


PRECISIONS = (*Precisions().in_place_of_auto({"training.precision": AUTO, "method.teacher_precision": AUTO}),)
"""Leaves of a TrialConfig that may be `auto`."""


def undecided_choices(dimensions: Mapping[str, Dimension], branches: Branches) -> Iterator[Problem]:
    """Yields the dimensions of precisions with `auto` among their choices: it may be the same as another one."""
    for key, dimension in dimensions.items():
        if branches.path_of(key) in PRECISIONS and isinstance(dimension, Choice) and AUTO in dimension.choice:
            expected = "a choice without auto, which is one of the others, decided by the hardware"
            yield Problem(branches.place_of(key), expected, spell(dimension))
