"""Findings about the data of a search that make its scores optimistic, and the sentences that say so."""

from __future__ import annotations

from trainables.frozen import Frozen
from tuner.messages.wording import counted

SAID_FROM_SHARE = 0.05
"""Share of the validation images with a near twin in training from which on it is said."""
NAMED = 3
"""Number of files in train and test that are named."""


class DataFindings(Frozen):
    """Findings about the data of a search.

    `num_with_twin` of `num_validated` validation images have a near twin in training (None: not counted, as of texts);
    `num_identical` of `num_test` test examples have the contents of a training example, of which `identical` has the
    names of some, training first. `grouped_by` is `data.group_by`, by which `num_train` training examples are in
    `num_groups` groups (None: not recorded, as by earlier versions).
    """

    num_validated: int | None = None
    num_with_twin: int | None = None
    num_test: int = 0
    num_identical: int = 0
    identical: tuple[tuple[str, str], ...] = ()
    grouped_by: str | int | None = None
    num_train: int | None = None
    num_groups: int | None = None

    @property
    def twin_share(self) -> float | None:
        """Share of the validation images that have a near twin in training."""
        return self.num_with_twin / self.num_validated if self.num_with_twin and self.num_validated else None

    @property
    def grouping(self) -> str:
        """The groups that folds keep whole, in words; "" without any, and in records of earlier versions."""
        if self.grouped_by is None or self.num_groups is None or self.num_train is None:
            return ""
        examples, groups = counted(self.num_train, "training example"), counted(self.num_groups, "group")
        return f"{examples} in {groups} by data.group_by {_as_written(self.grouped_by)}, which folds do not split"

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentences for a person; none where nothing makes scores optimistic.

        >>> DataFindings(num_validated=600, num_with_twin=186).notes
        ('31 % of validation images have a near twin in training: scores are optimistic; see data.group_by',)
        """
        notes = []
        if self.twin_share is not None and self.twin_share >= SAID_FROM_SHARE:
            share = f"{100 * self.twin_share:.0f} % of validation images have a near twin in training"
            by = self.grouped_by
            advice = "see data.group_by" if by is None else f"data.group_by is {_as_written(by)}"
            notes.append(f"{share}: scores are optimistic; {advice}")
        if self.num_identical:
            named = ", ".join(f"{test} = {train}" for train, test in self.identical[:NAMED])
            more = ", …" if self.num_identical > NAMED else ""
            files = f"{self.num_identical} of {counted(self.num_test, 'test example')}"
            notes.append(f"{files} are in training, too: the test score is optimistic ({named}{more})")
        return tuple(notes)


def _as_written(grouped_by: str | int) -> str:
    """A regular expression as in the file, between quotes, without the escapes of Python; or a level."""
    return f"'{grouped_by}'" if isinstance(grouped_by, str) else str(grouped_by)
