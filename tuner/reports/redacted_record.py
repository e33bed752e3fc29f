"""The record of a search with every credential taken out, fit to be shown to others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from tuner.messages.redaction import without_credentials
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import Event
from tuner.record.lines import read_events

M = TypeVar("M", bound=BaseModel)


def redacted_events(directory: RunDirectory) -> Iterator[Event]:
    """Yields the events of a run, oldest first, without credentials. Raises as `read_events`."""
    return map(redacted, read_events(directory.journal))


def redacted_environment(directory: RunDirectory) -> Environment:
    """Reads the environment of a run without credentials; an empty one where there is none."""
    return redacted(Environment.read(directory))


def redacted(model: M) -> M:
    """Copies a model with credentials taken out of every text in it, at any depth, whoever wrote it.

    >>> redacted(Environment(command="search --tracking-uri http://me:secret@host")).command
    'search --tracking-uri http://host'
    """
    return type(model).model_validate(_redacted(model.model_dump()))


def _redacted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _redacted(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_redacted(value) for value in tree]
    return without_credentials(tree) if isinstance(tree, str) else tree
