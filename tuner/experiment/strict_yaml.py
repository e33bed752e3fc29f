"""Reading YAML strictly: a key given twice is an error, and `1e-3` is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import BadInput, Problem

MERGE = "tag:yaml.org,2002:merge"


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's floats. YAML 1.1, which PyYAML speaks, takes `1e-3` for a string."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, yaml.Node] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
                continue  # SafeLoader's business: it refuses lists as keys, and merges
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _DuplicateKey(str(key), seen[key], value_node)
            seen[key] = value_node
        return super().construct_mapping(node, deep=deep)


class _DuplicateKey(Exception):
    def __init__(self, key: str, first: yaml.Node, second: yaml.Node) -> None:
        searched = {isinstance(node, yaml.MappingNode) for node in (first, second)} == {True, False}
        expected = "a leaf is either fixed or searched, not both" if searched else "a key is given once"
        lines = f"line {first.start_mark.line + 1} and line {second.start_mark.line + 1}"
        self.problem = Problem(key, expected, f"{key!r} twice, in {lines}")


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in `file`. Raises BadInput where the file is missing, no YAML, or not a mapping."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(Problem("", "a readable YAML file", _reason(error), file=str(file))) from None
    tree = parse_yaml(text, str(file))
    if not isinstance(tree, dict):
        raise BadInput(Problem("", "a mapping of sections", f"{type(tree).__name__}", file=str(file)))
    return tree


def parse_yaml(text: str, file: str = "") -> Any:
    """What `text` says in YAML. Raises BadInput with the line where it is none."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except _DuplicateKey as twice:
        raise BadInput(twice.problem).in_file(file) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        raise BadInput(
            Problem(where, "valid YAML", getattr(error, "problem", None) or "a syntax error", file)
        ) from None


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else "bytes that are not UTF-8"
