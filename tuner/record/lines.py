"""The lines of a journal: events encoded, and read back with the file and line of whatever is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from trainables.errors import BadInput, Problem, os_reason
from tuner.messages.wording import shorten
from tuner.record.directory import RunDirectory
from tuner.record.events import FORMAT, Event, Header

_LINE: TypeAdapter[Header | Event] = TypeAdapter(Annotated[Header | Event, Field(discriminator="event")])


def encode(event: Header | Event) -> bytes:
    r"""Encodes an event as its line, the line's end included.

    >>> encode(Header())
    b'{"event":"journal","format":1}\n'
    """
    return event.model_dump_json().encode() + b"\n"


class DamagedJournal(BadInput):
    """Error for a line of a journal that is no event of it. The events before it can be read; `way_out` is the command
    that keeps them, and the damaged file beside them."""

    def __init__(self, path: Path, line: int, expected: str, got: str) -> None:
        self._arguments = (path, line, expected, got)
        file, other = quote(str(path)), quote(f"{path}.damaged")
        cursor = quote(str(RunDirectory(path.parent).mlflow_cursor))
        self.way_out = f"mv {file} {other} && head -n {line - 1} {other} > {file} && rm -f {cursor}"
        kept = f"everything before this line can be read; to go on with that: {self.way_out}"
        super().__init__(Problem("", expected, f"{got} ({kept})", file=str(path), line=line))

    def __reduce__(self) -> tuple[type[DamagedJournal], tuple[Path, int, str, str]]:  # type: ignore[override]
        return type(self), self._arguments

    @property
    def brief(self) -> str:
        """The problem without the way out, and without the folder."""
        path, line, expected, got = self._arguments
        return str(Problem("", expected, got, file=path.name, line=line))


def read_events(path: Path) -> Iterator[Event]:
    """Yields the events in a journal, oldest first; none if there is no file.

    A last line without its end, which a crash leaves, is skipped.

        best = max(event.result.val_top1 for event in read_events(path) if isinstance(event, FoldFinished))

    Raises:
        DamagedJournal: with file, line and a way out, if a line is no event of this format.
        BadInput: if the journal has another format, or the file cannot be read.
    """
    for event, _ in read_events_from(path, 0):
        yield event


def read_events_from(path: Path, offset: int) -> Iterator[tuple[Event, int]]:
    """Yields the events that begin at byte `offset` or later, each with the offset at which it ends.

    Raises as `read_events`.
    """
    try:
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    if offset == 0 and 0 in line:  # no crash of ours: all of the journal is lost
                        raise _other_format(path, _content_of(line))
                    return
                event = _decode(line, path, offset)
                offset += len(line)
                if not isinstance(event, Header):
                    yield event, offset
    except OSError as error:
        raise BadInput(Problem("", "a journal that can be read", os_reason(error), file=str(path))) from None


def _decode(line: bytes, path: Path, offset: int) -> Header | Event:
    """Decodes the line that begins at byte `offset`. Raises as `read_events`."""
    is_first = offset == 0
    try:
        event = _LINE.validate_json(line)
    except (ValidationError, ValueError, RecursionError):
        if is_first:
            raise _other_format(path, "one of another version") from None
        raise DamagedJournal(path, _line_at(path, offset), "an event", _content_of(line)) from None
    if is_first and not isinstance(event, Header):
        raise _other_format(path, "one without a format")
    if isinstance(event, Header) and event.format != FORMAT:
        raise _other_format(path, f"format {event.format}")
    return event


def _content_of(line: bytes) -> str:
    """Says what a line that is no event consists of."""
    if num_zeros := line.count(0):
        return f"{num_zeros} NUL bytes, as a disk leaves that lost power"
    try:
        return f"{shorten(repr(line.decode().strip()), 80)}"
    except UnicodeDecodeError:
        return f"{len(line)} bytes that are no text"


def _line_at(path: Path, offset: int) -> int:
    """Number of the line that begins at byte `offset`, from 1."""
    with path.open("rb") as file:
        return file.read(offset).count(b"\n") + 1


def _other_format(path: Path, got: str) -> BadInput:
    return BadInput(Problem("", f"a journal of format {FORMAT}", got, file=str(path), line=1))
