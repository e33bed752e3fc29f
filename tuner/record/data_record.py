"""Record of the data of a run: `data.csv`, a row an example, by which a resumed run is known to have the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from trainables.errors import BadInput, Problem, os_reason
from trainables.files import write_whole
from tuner.record.directory import RunDirectory

if TYPE_CHECKING:  # both import PyTorch, which reading a record does not need
    from trainables.data.inventory import Inventory
    from tuner.experiment.search_experiment import Experiment

COLUMNS = ("sample", "split", "name", "class", "hash")


class ExampleRow(NamedTuple):
    """Row of the record: an example of the sample with that number, in the split that its dataset gives it.

    `digest` is the hash of its contents, "" where it is not in the sample or cannot be read.
    """

    sample: str
    split: str
    name: str
    label: str
    digest: str


def inventories_of(experiment: Experiment) -> list[Inventory]:
    """Takes the inventory of each sample of an experiment, in their order. Raises BadInput with all problems."""
    from trainables.data.inventory import take_inventory
    from trainables.data.loading import source_key

    distinct = {source_key(data): data for data in experiment.samples()}
    try:
        return [take_inventory(data) for data in distinct.values()]
    except BadInput as bad:
        raise bad.under("data").in_file(experiment.file) from None


def keep_inventories(experiment: Experiment, directory: RunDirectory) -> None:
    """Records the data of an experiment, unless its run has a record of them. Raises BadInput if it cannot be
    written."""
    if directory.data.exists():
        return
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for number, inventory in enumerate(inventories_of(experiment)):
        rows.writerows((number, *entry) for entry in inventory)
    try:
        write_whole(directory.data, text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        expected = "a folder that can be written"
        raise BadInput(Problem("tracking.directory", expected, f"{directory}: {os_reason(error)}")) from None


def read_inventories(directory: RunDirectory) -> list[Inventory] | None:
    """Reads the inventories of a run; None where it has no such record, as one of an earlier version.

    Raises:
        BadInput: if the record is damaged, as nothing would then tell that the data have changed.
    """
    from trainables.data.inventory import Entry

    rows = read_rows(directory)
    if rows is None:
        return None
    found: dict[str, list[Entry]] = {}
    for number, *entry in rows:
        found.setdefault(number, []).append(Entry(*entry))
    return list(found.values())


def read_rows(directory: RunDirectory) -> list[ExampleRow] | None:
    """Reads the rows of the record; None where there is none. Raises BadInput as `read_inventories` does."""
    if not directory.data.exists():
        return None
    try:
        text = directory.data.read_bytes().decode("utf-8", "surrogateescape")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        if tuple(header) != COLUMNS:
            raise ValueError(header)
        return [ExampleRow(*row) for row in rows]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        expected = "the record of the run's data, or no file, so that they are not compared"
        got = os_reason(error) if isinstance(error, OSError) else "a damaged one"
        raise BadInput(Problem("", expected, got, file=str(directory.data))) from None


def check_same_data(experiment: Experiment, directory: RunDirectory) -> None:
    """Raises BadInput with what has changed in the data since the run in `directory` was started, if anything has.

    A run without a record of its data, as one of an earlier version, is not checked.
    """
    from trainables.data.inventory import changes_between

    before = read_inventories(directory)
    if before is None:
        return
    now = inventories_of(experiment)
    changes = [change for pair in zip(before, now, strict=False) for change in changes_between(*pair)]
    if changes:
        expected = "the data with which the search was started (leave out --resume to start anew)"
        raise BadInput(Problem("data", expected, "; ".join(changes))).in_file(experiment.file)


def fingerprint_of(inventories: Iterable[Inventory]) -> str:
    """Hash of the data of an experiment, wherever they are."""
    from trainables.data.inventory import fingerprint

    return " ".join(map(fingerprint, inventories))
