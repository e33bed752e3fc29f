"""Keys are read off models: values, default, meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, NonNegativeFloat, PositiveInt

from trainables.frozen import Frozen
from tuner.experiment.keys import Key, as_markdown, as_text, keys_of, spell_values


class Slow(Frozen):
    """Slowly. And more."""

    rule: Literal["slow"] = "slow"
    seconds: NonNegativeFloat = 1.5
    """How long,
    in seconds."""


class Fast(Frozen):
    """Fast.

    Details."""

    rule: Literal["fast"] = "fast"


class Item(Frozen):
    label: str
    """Its name."""


class Model(Frozen):
    """The section.

    More of it."""

    count: PositiveInt
    """Number of it."""
    kind: Literal["a", "b"] | None = None
    """Which one."""
    pace: Annotated[Slow | Fast, Field(discriminator="rule")] = Slow()
    """How fast."""
    items: tuple[Item, ...] = ()
    """Some."""
    one: Item | None = None
    """Or none."""


def test_every_key_of_a_model_and_of_those_within() -> None:
    assert list(keys_of(Model, "top")) == [
        Key("top", "a section", "–", "The section."),
        Key("top.count", "a whole number above 0", "required", "Number of it."),
        Key("top.kind", "a, b or null", "–", "Which one."),
        Key("top.pace", "a section", "{rule: slow, seconds: 1.5}", "How fast."),
        Key("top.pace.slow", "rule: slow", "–", "Slowly. And more."),
        Key("top.pace.slow.seconds", "a number of at least 0", "1.5", "How long, in seconds."),
        Key("top.pace.fast", "rule: fast", "–", "Fast."),
        Key("top.items", "a list, each item a section", "[]", "Some."),
        Key("top.items[].label", "text", "required", "Its name."),
        Key("top.one", "a section or null", "–", "Or none."),
        Key("top.one.label", "text", "required", "Its name."),
    ]


def test_without_a_section_the_keys_stand_at_the_top() -> None:
    assert [key.path for key in keys_of(Item)] == ["label"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "a number above 0 and at most 1"),
        ({"type": "integer", "minimum": 3, "maximum": 512}, "a whole number of at least 3 and at most 512"),
        ({"type": "boolean"}, "true or false"),
        ({"type": "string", "format": "path"}, "a path"),
        ({"anyOf": [{"type": "integer"}, {"const": "auto"}]}, "a whole number or auto"),
        ({"enum": [True, False, "auto"]}, "true, false or auto"),
        ({"type": "array", "items": {"type": "string"}}, "a list, each item text"),
        ({}, ""),
    ],
)
def test_values_are_a_noun_phrase(schema: dict[str, Any], words: str) -> None:
    assert spell_values(schema, {}) == words


def test_lines_fit_into_a_terminal() -> None:
    lines = list(as_text(keys_of(Model, "top"), width=40))
    assert max(map(len, lines)) <= 40
    assert "top.count  a whole number above 0" in lines
    assert "    (required)" in lines


def test_a_table_of_markdown_escapes_what_would_split_a_cell() -> None:
    lines = list(as_markdown([Key("a", "x | y", "1", "what | it is")]))
    assert lines[2] == r"| `a` | x \| y | `1` | what \| it is |"
