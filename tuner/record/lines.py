"""The lines of a journal: events encoded, and read back with the file and line of whatever is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from trainables.errors import BadInput, Problem
from tuner.record.events import FORMAT, Event, Header

_LINE: TypeAdapter[Header | Event] = TypeAdapter(Annotated[Header | Event, Field(discriminator="event")])


def encode(event: Header | Event) -> bytes:
    r"""Encodes an event as its line, the line's end included.

    >>> encode(Header())
    b'{"event":"journal","format":1}\n'
    """
    return event.model_dump_json().encode() + b"\n"


def read_events(path: Path) -> Iterator[Event]:
    """Yields the events in a journal, oldest first; none if there is no file.

    A last line without its end, which a crash leaves, is skipped.

        best = max(event.result.val_top1 for event in read_events(path) if isinstance(event, FoldFinished))

    Raises:
        BadInput: with file and line, if a line is no event of this format, or the journal has another format.
        OSError: if the file cannot be read.
    """
    for event, _ in read_events_from(path, 0):
        yield event


def read_events_from(path: Path, offset: int) -> Iterator[tuple[Event, int]]:
    """Yields the events that begin at byte `offset` or later, each with the offset at which it ends.

    Raises as `read_events`; the number of the line is known only for `offset` 0.
    """
    if not path.exists():
        return
    from_start = offset == 0
    with path.open("rb") as file:
        file.seek(offset)
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            event = _decode(line, path, number if from_start else 0, is_first=from_start and number == 1)
            offset += len(line)
            if not isinstance(event, Header):
                yield event, offset


def _decode(line: bytes, path: Path, number: int, is_first: bool) -> Header | Event:
    try:
        event = _LINE.validate_json(line)
    except ValidationError as error:
        if is_first:
            raise _refused(path, number, f"a journal of format {FORMAT}", "one of another version") from None
        got = f"{error.errors()[0]['msg'].lower()} (everything before this line can be read)"
        raise _refused(path, number, "an event", got) from None
    if is_first and not isinstance(event, Header):
        raise _refused(path, number, f"a journal of format {FORMAT}", "one without a format")
    if isinstance(event, Header) and event.format != FORMAT:
        raise _refused(path, number, f"a journal of format {FORMAT}", f"format {event.format}")
    return event


def _refused(path: Path, line: int, expected: str, got: str) -> BadInput:
    return BadInput(Problem("", expected, got, file=str(path), line=line))
