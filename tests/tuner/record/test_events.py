"""The format of a journal: every kind round-trips, and what is none of it is refused with file and line."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from tests.tuner.tiny import add_trial, events_in, search_journal, search_started
from trainables.errors import BadInput
from trainables.results import EnsembleResult, FoldResult, RetrainResult
from tuner.record.events import Event, FoldFinished, Header, SearchEnded, TrialStarted, trial_id
from tuner.record.lines import encode, read_events, read_events_from

KINDS: tuple[type[BaseModel], ...] = get_args(Event)


def example(annotation: Any) -> Any:
    """A value of a field's type, of no particular meaning."""
    simple = {int: 3, float: 0.1 + 0.2, str: "γ", bool: True, type(None): None}
    if annotation in simple:
        return simple[annotation]
    if annotation is Any:
        return 1e-05
    if annotation is FoldResult:
        return FoldResult(2, 0.5, 1.0, [10, 20], {"loss": [0.5, math.inf]}, 7)
    if annotation is EnsembleResult:
        return EnsembleResult("weights", [0, 1], 0.5, 1.0)
    if annotation is RetrainResult:
        return RetrainResult(1, 0.5, 1.0, [10], {"loss": [0.25]})
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return event_of(annotation)
    arguments = get_args(annotation)
    origin = getattr(annotation, "__origin__", None)
    if origin is dict:
        return {"method.gamma_fe": example(arguments[1])}
    if origin is tuple:
        return (example(arguments[0]),) * 2
    return arguments[0] if isinstance(arguments[0], str) else example(arguments[0])  # a literal, or an optional


def event_of(kind: type[BaseModel]) -> Any:
    return kind(**{name: example(field.annotation) for name, field in kind.model_fields.items()})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_read_back_as_it_was_written(kind: type[BaseModel], tmp_path: Path) -> None:
    event, journal = event_of(kind), tmp_path / "journal.jsonl"
    journal.write_bytes(encode(Header()) + encode(event))
    assert list(read_events(journal)) == [event]


def test_kinds_have_names_of_their_own() -> None:
    names = [kind.model_fields["event"].default for kind in KINDS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_kind_takes_a_key_that_it_does_not_know_or_can_be_changed(kind: type[BaseModel]) -> None:
    event = event_of(kind)
    with pytest.raises(ValidationError):
        kind.model_validate({**event.model_dump(), "surprise": 1})
    with pytest.raises(ValidationError):
        event.time_s = 0.0


def test_numbers_are_kept_to_the_bit(tmp_path: Path) -> None:
    params = {"method.gamma_fe": 0.1 + 0.2, "training.num_steps": 80, "training.nesterov": True, "x": "text", "y": None}
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(encode(Header()) + encode(TrialStarted(trial=0, params=params, source="sampler")))
    (event,) = read_events(journal)
    assert isinstance(event, TrialStarted)
    assert event.params == params
    assert [type(value) for value in event.params.values()] == [type(value) for value in params.values()]


def test_an_infinite_loss_is_kept(tmp_path: Path) -> None:
    result = FoldResult(1, 0.5, 1.0, [10], {"watched": [math.inf]})
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(encode(Header()) + encode(FoldFinished(trial=0, result=result)))
    (event,) = read_events(journal)
    assert isinstance(event, FoldFinished)
    assert dataclasses.asdict(event.result) == dataclasses.asdict(result)


def test_the_first_line_says_the_format(tmp_path: Path) -> None:
    journal = search_journal(tmp_path)
    journal.append(search_started())
    assert json.loads(journal.path.read_text().splitlines()[0]) == {"event": "journal", "format": 1}
    assert len(events_in(journal.path)) == 1


@pytest.mark.parametrize(
    ("first", "got"),
    [
        ('{"event": "journal", "format": 2}', "format 2"),
        ('{"event": "search_started", "time_s": 1.0, "name": "tiny"}', "one of another version"),
        (encode(SearchEnded(outcome="finished", why="done")).decode().strip(), "one without a format"),
        ("\0\0\0\0", "one of another version"),
    ],
)
def test_another_format_is_refused_with_one_line(tmp_path: Path, first: str, got: str) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text(first + "\n")
    with pytest.raises(BadInput) as bad:
        list(read_events(journal))
    assert str(bad.value) == f"{journal}:1: expected a journal of format 1, got {got}"


@pytest.mark.parametrize("line", ['{"event": "trial_st', "\0" * 40, '{"event": "trial_ended", "trial": "x"}', "[]"])
def test_a_broken_line_in_the_middle_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    journal = search_journal(tmp_path)
    add_trial(journal, 0, [0.5, 0.7])
    lines = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text("".join([*lines[:2], line + "\n", *lines[2:]]))
    events = read_events(journal.path)
    assert isinstance(next(events), TrialStarted)
    with pytest.raises(BadInput) as bad:
        list(events)
    (problem,) = bad.value.problems
    assert (problem.file, problem.line, problem.expected) == (str(journal.path), 3, "an event")
    assert "everything before this line can be read" in problem.got


def test_a_journal_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "none.jsonl")) == []


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal = search_journal(tmp_path)
    add_trial(journal, 0, [0.5, 0.7])
    whole = list(read_events_from(journal.path, 0))
    for position, (_, end) in enumerate(whole):
        assert list(read_events_from(journal.path, end)) == whole[position + 1 :]
    assert whole[-1][1] == journal.path.stat().st_size


def test_trial_ids_sort_as_numbers() -> None:
    assert trial_id(7) == "trial-0007"
    assert sorted([trial_id(10), trial_id(9)]) == [trial_id(9), trial_id(10)]
