"""The sections of an experiment file: which there are, and which must be there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainables.errors import Problem, did_you_mean
from tuner.experiment.extends import EXTENDS
from tuner.messages.wording import NOTHING, shown

SECTION = "a section of keys and values"


def section_problems(tree: Mapping[str, Any], known: Collection[str], required: Collection[str]) -> Iterator[Problem]:
    """Yields what is wrong with the keys at the top of an experiment file.

    Args:
        known: The sections that such a file has. `name` is no mapping, all others are.
        required: Those that must be there.
    """
    for key, value in tree.items():
        if key not in known:
            hint = did_you_mean(str(key), (EXTENDS, *known), count=1)
            yield Problem(str(key), f"one of the sections {', '.join(known)}", f"the unknown key {shown(key)}{hint}")
        elif key != "name" and not isinstance(value, Mapping) and value is not None:
            yield Problem(key, SECTION, shown(value))
    for section in required:
        if tree.get(section) is None:
            yield Problem(section, SECTION, NOTHING)
