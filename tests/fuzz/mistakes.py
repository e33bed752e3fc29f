"""Random mistakes: in values, in trees of values, in texts and in bytes. Each draws from the generator that it gets."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD_VALUES: tuple[str, ...] = (
    "",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e400",
    "-.inf",
    ".nan",
    "1e-320",
    "9" * 5000,
    "9223372036854775808",
    "1",
    "2",
    "16",
    "0.5",
    "3.5",
    "{choice: [4, 8]}",
    "2026-02-30",
    "2026-02-28",
    "1:30",
    "0o17",
    "~nobody9/photos",
    "/dev/null",
    "/dev/null/x",
    "/proc/none",
    '"\\0"',
    '"a\\ud800b"',
    '"\\x1b[2J"',
    '"line\\nbreak"',
    "x" * 300,
    "x" * 20_000,
    "a[copy].png",
    ":dog:",
    "{}",
    "[]",
    "[[], {}]",
    "[true, 1]",
    "{choice: []}",
    "{choice: [8, 8.0]}",
    "{choice: [true, 1]}",
    "{choice: [[1, 2], 3]}",
    "{choice: [null, x]}",
    "{choice: [{name: l2}, {name: l2}]}",
    "{choice: [{label: a, name: l2}, 3]}",
    "{choice: {name: l2}}",
    "{uniform: [1, 0]}",
    "{uniform: [0, 1, 2]}",
    "{uniform: [true, 2]}",
    "{uniform: [-1.0e308, 1.0e308]}",
    "{log_uniform: [0, 1]}",
    "{log_uniform: [1.0e-300, 1.0e300]}",
    "{int: [1, 1e3]}",
    "{int: [1, 99999999999999999999]}",
    "{int: [0.5, 2]}",
    "{unifrom: [0, 1]}",
    "{choice: [1], uniform: [0, 1]}",
    "!!python/object:os.system x",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!int abc",
    "!unknown 3",
    "*nowhere",
    "&a [*a]",
    "<<",
    "foo://x",
    "s3://",
    "sqlite:////proc/x.db",
    "team/pets",
    "ünïcode 名前",
)
"""Values as YAML, each of which is wrong for most keys."""

BOMB = """
l0: &l0 [x, x, x]
l1: &l1 [*l0, *l0, *l0, *l0, *l0, *l0, *l0, *l0]
l2: &l2 [*l1, *l1, *l1, *l1, *l1, *l1, *l1, *l1]
l3: &l3 [*l2, *l2, *l2, *l2, *l2, *l2, *l2, *l2]
l4: &l4 [*l3, *l3, *l3, *l3, *l3, *l3, *l3, *l3]
"""
"""Aliases that stand for 12,000 values; two more levels would be for a million."""


def in_text(text: str, draw: random.Random) -> str:
    """Makes one mistake in a text of lines."""
    lines = text.splitlines() or [""]
    at = draw.randrange(len(lines))
    kind = draw.choice(("delete", "double", "swap", "indent", "character", "value", "value", "value", "cut", "bomb"))
    match kind:
        case "delete":
            del lines[at]
        case "double":
            lines.insert(at, lines[draw.randrange(len(lines))])
        case "swap":
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case "indent":
            lines[at] = draw.choice((" ", "  ", "\t", "- ")) + lines[at]
        case "character":
            place = draw.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + draw.choice(":{}[],&*!|>'\"%@`#\0\t\x85é") + lines[at][place + 1 :]
        case "value":
            key, separator, _ = lines[at].partition(":")
            lines[at] = f"{key}{separator or ':'} {draw.choice(ODD_VALUES)}"
        case "cut":
            return text[: draw.randrange(len(text) + 1)]
        case "bomb":
            section = draw.choice(("method", "search", "data", "training", "compare", "odd"))
            return f"{BOMB}{text}\n{section}: *l{draw.randrange(5)}\n"
    return "\n".join(lines) + "\n"


def in_bytes(content: bytes, draw: random.Random) -> bytes:
    """Makes one mistake in the bytes of a file, as disks, editors and transfers do."""
    if not content:
        return b"\0"
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice((1, 10, 512, 4096)))
    match draw.choice(("zeros", "zeros", "noise", "cut", "lose", "double", "line", "flip")):
        case "zeros":
            return content[:start] + bytes(end - start) + content[end:]
        case "noise":
            return content[:start] + draw.randbytes(end - start) + content[end:]
        case "cut":
            return content[:start]
        case "lose":
            return content[:start] + content[end:]
        case "double":
            return content[:end] + content[start:]
        case "line":
            lines = content.splitlines(keepends=True)
            draw.choice((lines.pop, lambda at: lines.insert(at, b"{}\n"), lambda at: lines.insert(at, lines[-1])))(
                draw.randrange(len(lines))
            )
            return b"".join(lines)
    return content[:start] + bytes([content[start] ^ (1 << draw.randrange(8))]) + content[start + 1 :]


def in_tree(tree: Any, draw: random.Random, values: tuple[Any, ...]) -> Any:
    """Copies a tree of plain data with one of its leaves, keys or branches replaced."""
    changed = copy.deepcopy(tree)
    places = list(_places(changed))
    if not places:
        return draw.choice(values)
    holder, key = draw.choice(places)
    match draw.choice(("replace", "replace", "replace", "remove", "rename")):
        case "replace":
            holder[key] = draw.choice(values)
        case "remove":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[f"{key}_"] = holder.pop(key)
    return changed


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list within `tree`, with each of its keys."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
