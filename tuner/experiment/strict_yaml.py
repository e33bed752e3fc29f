"""Strict reading of YAML: a key given twice is an error, `1e-3` is a number, and each key keeps its line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainables.errors import BadInput, Problem
from tuner.messages.wording import shorten, shown

MERGE = "tag:yaml.org,2002:merge"
TIMESTAMP = "tag:yaml.org,2002:timestamp"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
AMBIGUOUS = {
    re.compile("[^:]+(:[^:]+)+"): "a number without colons (in quotes: a text)",
    re.compile("[-+]?0[0-9_]+"): "a number without leading zeros (in quotes: a text)",
}
"""Forms of numbers that YAML 1.1 reads as others than a person means: `1:30` is 90, and `010` is 8."""
MAX_VALUES = 10_000
"""Values that a file may have with its aliases written out; a few nested ones can stand for billions."""
MAX_CHARACTERS = 200_000
"""Size of a file, which takes some seconds to parse."""
MAX_INTEGER = 2**63
"""Bound of the whole numbers that programs of other languages can read."""
MAX_LEVELS = 50
"""Mappings and lists within each other; an experiment has about eight."""

UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""Characters that YAML's escapes can make, and that no name of a file, class or model may have."""

TOO_DEEP = Problem("", f"at most {MAX_LEVELS} mappings and lists within each other", "more")


class Document(NamedTuple):
    """A YAML document: its content as plain data, and the line of each key and list item by dotted path, from 1.

    >>> parse_document("compare:\\n  rows:\\n  - label: SMILE\\n").lines
    {'compare': 1, 'compare.rows': 2, 'compare.rows[0]': 3, 'compare.rows[0].label': 3}
    """

    content: Any
    lines: dict[str, int]


def read_yaml(file: Path) -> dict[str, Any]:
    """Returns the mapping in `file`. Raises BadInput where the file is missing, no YAML, or not a mapping."""
    tree: dict[str, Any] = read_document(file).content
    return tree


def read_document(file: Path) -> Document:
    """Returns the mapping in `file`, with its lines. Raises BadInput where it is missing, no YAML, or not a mapping."""
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MAX_CHARACTERS + 1)  # a device has no size, and perhaps no end
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(Problem("", "a readable YAML file", _reason(error), file=str(file))) from None
    if len(text) > MAX_CHARACTERS:
        raise BadInput(Problem("", f"a file of at most {MAX_CHARACTERS:,} characters", "more", file=str(file)))
    document = parse_document(text, str(file))
    if not isinstance(document.content, dict):
        got = "an empty file" if document.content is None else f"a {type(document.content).__name__}"
        raise BadInput(Problem("", "a mapping of sections", got, file=str(file)))
    return document


def parse_yaml(text: str, file: str = "") -> Any:
    """Returns the content of the YAML document `text`. Raises BadInput with the line where it is none."""
    return parse_document(text, file).content


def parse_document(text: str, file: str = "") -> Document:
    """Parses one YAML document.

    Raises:
        BadInput: with file and line, where `text` is no YAML or gives a key twice.
    """
    if _is_too_long(text):
        raise BadInput(Problem("", f"at most {MAX_VALUES} values", "more", file=file))
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document(None, {})
            if problems := list(_GraphCheck(loader, text).problems(node)):
                raise BadInput(problems).in_file(file)
            content = loader.construct_document(node)
            # Merges (`<<`) have been resolved by now, so that a merged key has the line where it was written.
            return Document(content, dict(_lines(loader, node)))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise BadInput(_syntax_problem(error, text, file)) from None
    except RecursionError:
        raise BadInput(TOO_DEEP).in_file(file) from None


def _is_too_long(text: str) -> bool:
    """Whether a text has far too many values, found out by the parser in C, which is faster by an order of magnitude.
    Without that parser, and where it finds an error, the other one tells."""
    parser = getattr(yaml, "CSafeLoader", None)
    limit = 3 * MAX_VALUES  # a value comes with a key, and a list with its end
    try:
        return parser is not None and len(list(itertools.islice(yaml.parse(text, parser), limit + 1))) > limit
    except yaml.YAMLError:
        return False


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's floats. YAML 1.1, which PyYAML implements, takes `1e-3` for a string."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError):  # of `2026-13-45` or `!!bool perhaps`
            kind, value = node.tag.rpartition(":")[2], shorten(repr(node.value))
            raise yaml.constructor.ConstructorError(
                None, None, f"found {value}, which is no {kind}", node.start_mark
            ) from None


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


class _GraphCheck:
    """Finds keys that are given twice, values that are none, and aliases that are endless or stand for too many values.

    Aliases share nodes: each node is visited once, so that the check takes time linear in the text.
    """

    def __init__(self, loader: _StrictLoader, text: str) -> None:
        self._loader = loader
        self._text = text
        self._num_values: dict[int, int] = {}
        self._open: set[int] = set()

    def problems(self, root: yaml.Node) -> Iterator[Problem]:
        yield from self._visit(root, "")
        if (num_values := self._num_values.get(id(root), 0)) > MAX_VALUES:
            yield Problem("", f"at most {MAX_VALUES} values", f"{num_values:.3g} with aliases written out")

    def _visit(self, node: yaml.Node, path: str) -> Iterator[Problem]:
        if id(node) in self._num_values:
            return
        if id(node) in self._open:
            yield Problem(path, "an alias of something else", "one of the value that holds it", line=_line(node))
            return
        if len(self._open) == MAX_LEVELS:
            yield replace(TOO_DEEP, line=_line(node))
            return
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from self._repeated_keys(node, path)
        elif isinstance(node, yaml.ScalarNode):
            yield from self._of_scalar(node, path)
        children = _children(self._loader, node, path)
        for child_path, _, child in children:
            yield from self._visit(child, child_path)
        self._open.remove(id(node))
        self._num_values[id(node)] = 1 + sum(self._num_values.get(id(child), 0) for _, _, child in children)

    def _of_scalar(self, node: yaml.ScalarNode, path: str) -> Iterator[Problem]:
        if node.tag == TIMESTAMP:
            expected = "a value that is no date (in quotes: a text)"
            yield Problem(path, expected, shorten(node.value), line=_line(node))
            return
        if node.tag in NUMBERS:
            for form, expected in AMBIGUOUS.items():
                if form.fullmatch(node.value):
                    yield Problem(path, expected, shorten(node.value), line=_line(node))
                    return
        try:
            value = self._loader.construct_object(node)
        except yaml.YAMLError as error:
            yield replace(_syntax_problem(error, self._text, ""), where=path)
            return
        if isinstance(value, str) and UNUSABLE.search(value):
            yield Problem(path, "text without control characters", shorten(repr(value)), line=_line(node))
        elif isinstance(value, int) and abs(value) >= MAX_INTEGER:
            yield Problem(path, "a whole number of 18 digits at most", shown(value), line=_line(node))

    def _repeated_keys(self, node: yaml.MappingNode, path: str) -> Iterator[Problem]:
        seen: dict[Any, yaml.Node] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
                continue  # SafeLoader refuses other keys, and merges
            key = self._loader.construct_object(key_node, deep=True)
            if isinstance(key, str) and UNUSABLE.search(key):
                yield Problem("", "keys without control characters", shorten(repr(key)), line=_line(key_node))
            if key in seen:
                searched = {isinstance(each, yaml.MappingNode) for each in (seen[key], value_node)} == {True, False}
                expected = (
                    "a leaf that is either fixed or searched, not both" if searched else "a key that is given once"
                )
                got = f"{shorten(repr(key))} in line {_line(seen[key])}, too"
                yield Problem(_join(path, key), expected, got, line=_line(key_node))
            seen.setdefault(key, value_node)


def _lines(loader: _StrictLoader, node: yaml.Node, path: str = "") -> Iterator[tuple[str, int]]:
    """Yields the path and the line of everything below `node`. Aliases are written out."""
    for child_path, place, child in _children(loader, node, path):
        yield child_path, _line(place)
        yield from _lines(loader, child, child_path)


def _children(loader: _StrictLoader, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """Path, node of the line, and value of each key or item of `node`."""
    if isinstance(node, yaml.SequenceNode):
        return [(f"{path}[{i}]", item, item) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        scalars = ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
        return [(_join(path, _key(loader, key)), key, value) for key, value in scalars]
    return []


def _key(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    return "<<" if node.tag == MERGE else loader.construct_object(node, deep=True)


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line + 1
    return line


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        got = f"the character #x{ord(text[error.position]):04x}"
        return Problem(_key_of_unprintable(text), "text that YAML allows", got, file, line)
    mark = getattr(error, "problem_mark", None)
    # The parser notices an open bracket at the end of the file, behind its last line.
    line = min(mark.line + 1, len(text.rstrip().splitlines())) if mark else 0
    message = str(getattr(error, "problem", None) or error).replace("'<stream end>'", "the end of the text")
    if "<block end>" in message:
        return Problem("", "the keys or items of one section indented alike", "another indentation", file, line)
    if parts := re.fullmatch(r"expected (?:the )?(.+?),? but (?:got|found) (.+)", message, re.DOTALL):
        return Problem("", parts[1], shorten(parts[2]), file, line)
    found = re.fullmatch(r"(?:but )?found (.+)", message, re.DOTALL)
    return Problem("", "valid YAML", shorten(found[1] if found else f"a syntax error: {message}"), file, line)


def _key_of_unprintable(text: str) -> str:
    """Dotted path of the first value with a character that YAML does not allow; "" where it is in no value."""
    mark = "\ufffd"
    loader = _StrictLoader(yaml.reader.Reader.NON_PRINTABLE.sub(mark, text.replace(mark, "")))
    try:
        root = loader.get_single_node()
        scalars = _scalars(loader, root, set()) if root is not None else iter(())
        return next((path for path, node in scalars if mark in node.value), "")
    except (yaml.YAMLError, RecursionError):
        return ""
    finally:
        loader.dispose()


def _scalars(
    loader: _StrictLoader, node: yaml.Node, seen: set[int], path: str = ""
) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Yields the path of each value that is neither mapping nor list, where it is first."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    for child_path, _, child in _children(loader, node, path):
        yield from _scalars(loader, child, seen, child_path)


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else "bytes that are not UTF-8"
