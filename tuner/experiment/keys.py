"""Reference of the experiment file: every key with its values, its default and its meaning, read off the models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

REQUIRED = "required"
NO_DEFAULT = "–"
SECTION = "a section"

Schema = Mapping[str, Any]
"""JSON schema of a model or of one of its fields, as pydantic makes it."""


@dataclass(frozen=True)
class Key:
    """Key of an experiment file.

    `path` is dotted; where a section has alternatives its part is the alternative's name (`method.smile.gamma_fe`,
    `search.racing.folds.margin`), and where it is a list, `[]` (`compare.rows[].label`).
    """

    path: str
    values: str
    """Type and range, as a noun phrase."""
    default: str
    """YAML of the default, `required`, or `–` where there is none."""
    meaning: str
    """Docstring of the field, on one line."""


class _Alternative(NamedTuple):
    """Model that a key may hold: what its keys' path begins with, its schema, and the key that tells it apart."""

    path: str
    schema: Schema
    discriminator: str = ""


def keys_of(model: type[BaseModel], section: str = "") -> Iterator[Key]:
    """Yields the section that `model` describes and every key of it, those of nested sections included; without a name
    of the section its keys alone.

    >>> from tuner.experiment.settings import ResourceSettings
    >>> section, cpus, gpus = keys_of(ResourceSettings, "resources")
    >>> cpus.path, cpus.values, cpus.default
    ('resources.cpus', 'a number above 0', '1')
    """
    schema = model.model_json_schema()
    if section:
        yield Key(section, SECTION, NO_DEFAULT, _meaning(schema, {}))
    yield from _keys_within(_Alternative(section, schema), schema.get("$defs", {}))


def _keys_within(section: _Alternative, defs: Schema) -> Iterator[Key]:
    required = section.schema.get("required", ())
    for name, schema in section.schema["properties"].items():
        if name == section.discriminator:
            continue
        path = f"{section.path}.{name}".lstrip(".")
        alternatives = list(_alternatives(schema, path, defs))
        if name in required:
            default = REQUIRED
        else:
            default = NO_DEFAULT if schema.get("default") is None else _as_yaml(schema["default"])
        yield Key(path, spell_values(schema, defs), default, _meaning(schema, defs))
        for alternative in alternatives:
            if alternative.discriminator:
                chosen = f"{alternative.discriminator}: {alternative.path.rpartition('.')[2]}"
                yield Key(alternative.path, chosen, NO_DEFAULT, _meaning(alternative.schema, defs))
            yield from _keys_within(alternative, defs)


def _alternatives(schema: Schema, path: str, defs: Schema) -> Iterator[_Alternative]:
    """Yields the models that a key may hold, in it or in its list."""
    if "discriminator" in schema:
        told_by = schema["discriminator"]
        names = {reference: name for name, reference in told_by["mapping"].items()}
        for member in schema["oneOf"]:  # in the order of the union
            path_of_it = f"{path}.{names[member['$ref']]}"
            yield _Alternative(path_of_it, _resolved(member, defs), told_by["propertyName"])
    elif schema.get("type") == "array":
        yield from _alternatives(schema.get("items", {}), f"{path}[]", defs)
    elif "anyOf" in schema:
        for member in schema["anyOf"]:
            yield from _alternatives(member, path, defs)
    else:
        resolved = _resolved(schema, defs)
        if "properties" in resolved:
            yield _Alternative(path, resolved)


def _resolved(schema: Schema, defs: Schema) -> Schema:
    if "allOf" in schema:
        return _resolved(schema["allOf"][0], defs)
    reference = schema.get("$ref")
    return schema if reference is None else defs[reference.rpartition("/")[2]]


def spell_values(schema: Schema, defs: Schema) -> str:
    """Spells the values that a JSON schema allows as a noun phrase.

    >>> spell_values({"type": "integer", "exclusiveMinimum": 0}, {})
    'a whole number above 0'
    >>> spell_values({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, {})
    'a, b or null'
    """
    words = list(dict.fromkeys(word for word in _words_of(schema, defs) if word))
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def _words_of(schema: Schema, defs: Schema) -> Iterator[str]:
    """Yields a noun phrase for each kind of value that a JSON schema allows."""
    schema = {**schema, **_resolved(schema, defs)}
    if "anyOf" in schema:
        for member in schema["anyOf"]:
            yield from _words_of(member, defs)
    elif "enum" in schema:
        yield from map(_as_yaml, schema["enum"])
    elif "const" in schema:
        yield _as_yaml(schema["const"])
    elif schema.get("type") == "array":
        items = spell_values(schema.get("items", {}), defs)
        yield f"a list, each item {items}" if items else "a list"
    elif "properties" in schema or "discriminator" in schema or schema.get("type") == "object":
        yield SECTION
    else:
        noun = _NOUNS.get(schema.get("format", ""), _NOUNS.get(schema.get("type", ""), ""))
        bounds = [words.format(schema[bound]) for bound, words in _BOUNDS.items() if bound in schema]
        yield " ".join([noun, *([" and ".join(bounds)] if bounds else [])])


_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "path": "a path",
    "null": "null",
}
_BOUNDS = {
    "exclusiveMinimum": "above {:g}",
    "minimum": "of at least {:g}",
    "exclusiveMaximum": "below {:g}",
    "maximum": "at most {:g}",
    "maxLength": "of at most {} characters",
}


def _as_yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000)
    return text.removesuffix("...\n").strip()


def _meaning(schema: Schema, defs: Schema) -> str:
    """The docstring of a field, else the first paragraph of that of its model, on one line."""
    text = schema.get("description") or _resolved(schema, defs).get("description", "")
    return " ".join(text.partition("\n\n")[0].split())


def as_text(keys: Iterable[Key], width: int) -> Iterator[str]:
    """Yields the lines of a reference for a terminal of `width` columns."""
    for key in keys:
        default = f", default {key.default}" if key.default not in (REQUIRED, NO_DEFAULT) else ""
        required = f" ({REQUIRED})" if key.default == REQUIRED else ""
        yield from wrap(
            f"{key.path}  {key.values}{default}{required}", width, subsequent_indent="    ", break_on_hyphens=False
        )
        yield from wrap(key.meaning, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def as_markdown(keys: Iterable[Key]) -> Iterator[str]:
    """Yields the lines of a table of keys in Markdown."""
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    for key in keys:
        default = key.default if key.default in (REQUIRED, NO_DEFAULT) else f"`{key.default}`"
        cells = (f"`{key.path}`", key.values, default, key.meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
