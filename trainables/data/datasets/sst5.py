"""SST-5, the sentences of the Stanford Sentiment Treebank in five classes (Socher et al., EMNLP 2013)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.datasets.published import Published, complete_folder
from trainables.errors import BadInput, Problem

HEADER = "sentence\tlabel"

CLASS_NAMES = ("very negative", "negative", "neutral", "positive", "very positive")

SST5 = Published(
    folder="sst5",
    files=("train.tsv", "test.tsv"),
    num_classes=5,
    num_train=8544,
    num_test=2210,
    where="the root sentences of nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip, as sentence, tab, label",
)


class Sentences(NamedTuple):
    """The sentences of a file, unchanged, and their labels 0…4."""

    texts: list[str]
    labels: list[int]


def sst5(config: DataConfig) -> Dataset:
    """SST-5, the Stanford Sentiment Treebank (Socher et al., 2013): 10,754 sentences of film reviews in five classes.

    Reads `train.tsv` and `test.tsv`. Validation is by folds, as for images: the development split is not read.
    """
    folder = complete_folder(config, SST5)
    splits: list[Sentences] = []
    problems: list[Problem] = []
    for name in SST5.files:
        try:
            splits.append(read_tsv(folder / name))
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(problems)
    train, test = splits
    if config.check_counts:
        problems = _count_problems(train, test)
    return Dataset(
        CLASS_NAMES, _listing(folder / "train.tsv", train), _listing(folder / "test.tsv", test), (*problems,)
    )


def read_tsv(file: Path) -> Sentences:
    """Reads a split; quotation marks have no special meaning. Raises BadInput with every malformed line."""
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(Problem("root", "a text file in UTF-8", f"{file}: {error}")) from error
    if lines[0] != HEADER:
        raise BadInput(Problem("root", f"the header {HEADER!r} in {file}, line 1", repr(lines[0][:60])))
    rows = [line.rpartition("\t") for line in lines[1:]]
    problems = list(_line_problems(file, [(text, label) for text, _, label in rows]))
    if problems:
        raise BadInput(problems)
    return Sentences([text for text, _, _ in rows], [int(label) for _, _, label in rows])


def _line_problems(file: Path, rows: list[tuple[str, str]]) -> Iterator[Problem]:
    for number, (text, label) in enumerate(rows, start=2):
        if not text.strip() or "\t" in text or label not in {"0", "1", "2", "3", "4"}:
            got = "\t".join((text, label))
            expected = f"a sentence, a tab and a label from 0 to 4 in {file}, line {number}"
            yield Problem("root", expected, repr(got[-60:].lstrip("\t")))


def _count_problems(train: Sentences, test: Sentences) -> list[Problem]:
    got, counts = (len(train.labels), len(test.labels)), (SST5.num_train, SST5.num_test)
    if got == counts:
        return []
    words = "{} training and {} test sentences"
    expected = f"{words.format(*counts)}, as published (data.check_counts: false takes what there is)"
    return [Problem("root", expected, words.format(*got))]


def _listing(file: Path, split: Sentences) -> Listing:
    names = [f"{file}, line {number}" for number in range(2, len(split.labels) + 2)]
    return Listing(np.asarray(split.labels, dtype=np.int64), names, lambda i: split.texts[i])
