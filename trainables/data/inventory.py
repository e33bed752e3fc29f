"""Inventory of a dataset: names, labels and contents of its examples, by which a later change of it is found.

Scores of two searches, or of the two halves of a resumed one, are comparable only on the same examples. Names are those
below `data.root`, so that a dataset may be moved.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from trainables.data.cache import file_digest
from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.datasets.registry import open_dataset
from trainables.data.datasets.root_folder import quoted
from trainables.data.loading import Splits, plan_splits, short_names

NAMED = 3
"""Number of examples that a message names of each kind of change."""


class Entry(NamedTuple):
    """An example: the split that its dataset gives it, its name below the root, the name of its class, and the hash of
    its contents, "" where it is not in the sample or cannot be read."""

    split: str
    name: str
    label: str
    digest: str


Inventory = Sequence[Entry]


def take_inventory(config: DataConfig) -> Inventory:
    """Lists every example of the dataset, and hashes those in the sample. Raises BadInput with all problems.

    >>> take_inventory(DataConfig(dataset="digits"))[7][:3]
    ('train', 'digits/7', '7')
    """
    dataset, splits = open_dataset(config), plan_splits(config)
    digests = _digests(splits)
    return [
        Entry(split, name, dataset.class_names[label], digests.get(path, ""))
        for split, listing in _listings(dataset)
        for name, path, label in zip(short_names(config, listing), listing.names, listing.labels.tolist(), strict=True)
    ]


def fingerprint(inventory: Inventory) -> str:
    """Hash of an inventory: equal if nothing has changed, wherever the data are."""
    digest = hashlib.blake2b(digest_size=16)
    for entry in inventory:
        digest.update(repr(tuple(entry)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def changes_between(before: Inventory, now: Inventory) -> Iterator[str]:
    """Yields what has changed, each kind with its number and some names; nothing if `now` is as `before`.

    An example that is not hashed in both is compared by name, split and label alone.
    """
    was, is_now = {entry.name: entry for entry in before}, {entry.name: entry for entry in now}
    added, removed = ([n for n in a if n not in b] for a, b in ((is_now, was), (was, is_now)))
    from_digest = {was[name].digest: name for name in removed if was[name].digest}
    moved = {from_digest[d]: name for name in added if (d := is_now[name].digest) in from_digest}
    added, removed = [n for n in added if n not in moved.values()], [n for n in removed if n not in moved]
    both = [(was[name], is_now[name]) for name in was if name in is_now]
    relabelled = [f"{a.name}' from '{a.label}' to '{b.label}" for a, b in both if a.label != b.label]
    other_split = [f"{a.name}' from '{a.split}' to '{b.split}" for a, b in both if a.split != b.split]
    changed = [a.name for a, b in both if a.digest and b.digest and a.digest != b.digest]
    kinds = (
        ("added", added),
        ("removed", removed),
        ("moved or renamed", [f"{a}' to '{b}" for a, b in moved.items()]),
        ("in another class", relabelled),
        ("in another split", other_split),
        ("with other contents", changed),
    )
    yield from (f"{len(names)} {kind} ({quoted(names, NAMED)})" for kind, names in kinds if names)


def identical_pairs(inventory: Inventory, splits: Splits, config: DataConfig) -> list[tuple[str, str]]:
    """The names of training and test examples of the sample with the same contents, a pair for each test example."""
    digests = {entry.name: entry.digest for entry in inventory if entry.digest}
    train, test = (short_names(config, part) for part in (splits.train, splits.test))
    trained_on = {digests[name]: name for name in reversed(train) if name in digests}
    return [(trained_on[d], name) for name in test if (d := digests.get(name)) in trained_on]


def _listings(dataset: Dataset) -> Iterator[tuple[str, Listing]]:
    yield "train", dataset.train
    if dataset.validation is not None:
        yield "validation", dataset.validation
    if dataset.test is not None:
        yield "test", dataset.test


def _digests(splits: Splits) -> dict[str, str]:
    """Hashes of the sampled examples, by name."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {
            name: digest
            for part in (splits.train, splits.test)
            for name, digest in zip(part.names, pool.map(partial(_digest, part), range(len(part))), strict=True)
        }


def _digest(listing: Listing, i: int) -> str:
    if listing.in_files:
        try:
            return file_digest(listing.names[i]).hex()[:32]
        except OSError:  # decoding reports it
            return ""
    content = listing.read(i)
    raw = content.encode() if isinstance(content, str) else np.asarray(content).tobytes()
    return hashlib.blake2b(raw, digest_size=16).hexdigest()
