"""Splits of a dataset by the names that people give them, in any case: `train`, `Testing`, `val_images`."""

from __future__ import annotations

import re
from typing import Literal

SplitName = Literal["train", "test", "validation"]

SPLIT_NAMES: dict[SplitName, str] = {
    "train": "train|training|trn",
    "test": "test|testing|tst",
    "validation": "val|valid|validation",
}
"""Usual names of each split, as a regular expression."""
_SUFFIX = "(?:set|data|dataset|split|images?|imgs|photos|pictures)?"


def split_named(name: str) -> SplitName | None:
    """The split that a folder or a value with this name usually is; None if it is none.

    >>> split_named("Training"), split_named("val_images"), split_named("ape")
    ('train', 'validation', None)
    """
    word = re.sub(r"[\W_]+", "", name.casefold())
    return next((split for split, names in SPLIT_NAMES.items() if re.fullmatch(f"(?:{names}){_SUFFIX}", word)), None)
